import { spawnSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { gzipSync, zstdCompressSync } from 'node:zlib';
import { archiveJobs } from '../archive/jobs.ts';
import { silentLogger } from '../base/log.ts';
import { archiveLayerJobs } from '../cache/archive-jobs.ts';
import type { BlobForm, LayerJobs } from '../cache/layer-jobs.ts';
import { LocalRefManager, type RefManagerOptions } from '../cache/manager.ts';
import { LocalMounter } from '../store/local-mounter.ts';
import type { Store } from '../store/store.ts';
import { inlineJobs } from './store.ts';

function tar(args: readonly string[], input?: Uint8Array): Buffer {
  const { status, stdout, stderr } = spawnSync('tar', args, { input: input ?? '', maxBuffer: 1 << 28 });
  if (status !== 0) throw new Error(`tar ${args.join(' ')}: ${stderr.toString()}`);
  return stdout;
}

/** Compresses a tar as a layer blob. */
export function packLayer(data: Uint8Array, form: BlobForm): Uint8Array {
  if (form.type === 'gzip') return gzipSync(data, { level: form.level ?? -1 });
  return form.type === 'zstd' ? zstdCompressSync(data) : data;
}

/** A tar of a directory that depends on its content only. */
export function tarOf(dir: string): Buffer {
  return tar(['-C', dir, '--sort=name', '--mtime=@0', '--numeric-owner', '-c', ...readdirSync(dir).sort()]);
}

/** The real layer jobs on the calling thread, a little slow and counted. */
export function countedLayerJobs(store: Store): LayerJobs & {
  readonly calls: Record<'apply' | 'settle' | 'diff' | 'convert' | 'merge', number>;
} {
  const jobs = archiveLayerJobs(inlineJobs(archiveJobs), new LocalMounter(`${store.layout.tmp}/mounts`));
  const calls = { apply: 0, settle: 0, diff: 0, convert: 0, merge: 0 };
  const counted = async <T>(name: keyof typeof calls, work: () => Promise<T>): Promise<T> => {
    calls[name]++;
    await new Promise((resolve) => setTimeout(resolve, 5));
    return await work();
  };
  return {
    calls,
    apply: (input, options) => counted('apply', () => jobs.apply(input, options)),
    settle: (input, options) => counted('settle', () => jobs.settle(input, options)),
    diff: (input, options) => counted('diff', () => jobs.diff(input, options)),
    convert: (input, options) => counted('convert', () => jobs.convert(input, options)),
    merge: (input, options) => counted('merge', () => jobs.merge(input, options)),
  };
}

/** A ref manager over an open store. */
export function openTestCache(
  store: Store,
  jobs: LayerJobs = countedLayerJobs(store),
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
