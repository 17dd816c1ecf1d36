import { spawnSync } from 'node:child_process';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { gunzipSync, gzipSync, zstdCompressSync, zstdDecompressSync } from 'node:zlib';
import { digestOf } from '../base/digest.ts';
import { silentLogger } from '../base/log.ts';
import { layerCompression } from '../cache/compression.ts';
import type { BlobFile, BlobForm, LayerJobs } from '../cache/layer-jobs.ts';
import { LocalRefManager, type RefManagerOptions } from '../cache/manager.ts';
import type { Store } from '../store/store.ts';
import { withMounted } from './contracts/snapshot.ts';

function tar(args: readonly string[], input?: Uint8Array): Buffer {
  const { status, stdout, stderr } = spawnSync('tar', args, { input: input ?? '', maxBuffer: 1 << 28 });
  if (status !== 0) throw new Error(`tar ${args.join(' ')}: ${stderr.toString()}`);
  return stdout;
}

function unpack(path: string, mediaType: string): Buffer {
  const blob = readFileSync(path);
  const type = layerCompression(mediaType);
  return type === 'gzip' ? gunzipSync(blob) : type === 'zstd' ? zstdDecompressSync(blob) : blob;
}

/** Compresses a tar as a layer blob. */
export function packLayer(data: Uint8Array, form: BlobForm): Uint8Array {
  if (form.type === 'gzip') return gzipSync(data, { level: form.level ?? -1 });
  return form.type === 'zstd' ? zstdCompressSync(data) : data;
}

function write(output: string, data: Uint8Array, form: BlobForm): BlobFile {
  const blob = packLayer(data, form);
  writeFileSync(output, blob);
  return { digest: digestOf(blob), size: blob.length, diffId: digestOf(data) };
}

/** A tar of a directory that depends on its content only. */
export function tarOf(dir: string): Buffer {
  return tar(['-C', dir, '--sort=name', '--mtime=@0', '--numeric-owner', '-c', ...readdirSync(dir).sort()]);
}

/** Layer jobs by the system's tar, for layers that delete nothing; counts its calls. */
export function tarJobs(): LayerJobs & { readonly calls: Record<'apply' | 'diff' | 'convert', number> } {
  const calls = { apply: 0, diff: 0, convert: 0 };
  return {
    calls,
    apply: async ({ blob, mediaType, mounts }) => {
      calls.apply++;
      await new Promise((resolve) => setTimeout(resolve, 5));
      const data = unpack(blob, mediaType);
      withMounted(mounts, (dir) => tar(['-C', dir, '-xpf', '-'], data));
      return { diffId: digestOf(data) };
    },
    diff: async ({ overlay, output, form }) => {
      calls.diff++;
      await new Promise((resolve) => setTimeout(resolve, 5));
      if (!overlay) throw new Error('only overlay snapshots');
      return write(output, tarOf(overlay.upperDir), form);
    },
    convert: async ({ blob, mediaType, output, form }) => {
      calls.convert++;
      await new Promise((resolve) => setTimeout(resolve, 5));
      return write(output, unpack(blob, mediaType), form);
    },
  };
}

/** A ref manager over an open store. */
export function openTestCache(
  store: Store,
  jobs: LayerJobs,
  more: Partial<RefManagerOptions> = {},
): LocalRefManager {
  return new LocalRefManager({
    db: store.db,
    content: store.content,
    snapshots: store.snapshots,
    leases: store.leases,
    jobs,
    log: silentLogger,
    mountDir: `${store.layout.tmp}/mounts`,
    gc: () => store.gc(),
    ...more,
  });
}
