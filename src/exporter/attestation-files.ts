import { posix } from 'node:path';
import { type Attestation, isInlineOnly, type Subject } from '../attest/attestation.ts';
import { digestSet } from '../attest/capture.ts';
import { BuildError } from '../base/errors.ts';
import type { ImmutableRef } from '../cache/ref.ts';
import { indentJson } from '../oci/raw-json.ts';
import type { JobRunner } from '../pool/types.ts';
import type { TreeSource } from '../session/fsutil/source.ts';
import { comparePaths, type FsStat, hasData } from '../session/fsutil/stat.ts';
import { readAttestations, statementsOf } from './attestations.ts';
import type { MountTree } from './exporter.ts';
import type { ExporterJobs } from './jobs.ts';

export interface TreeServices {
  readonly mount: MountTree;
  readonly jobs: JobRunner<ExporterJobs>;
}

const FILE_MODE = 0o600;
const NS_PER_S = 1_000_000_000n;

export interface AttestationFilesOptions {
  readonly prefix: string;
  /** Set before the end of each name; '' = nothing. */
  readonly platform: string;
  /** Of the files; undefined: now. */
  readonly timeNs: bigint | undefined;
  readonly signal: AbortSignal;
}

/** The tree of `dir` with what is said of it, as files beside the others (FEATURES J34). */
export async function withAttestationFiles(
  tree: TreeSource,
  dir: string,
  attestations: readonly Attestation<ImmutableRef>[],
  services: TreeServices,
  options: AttestationFilesOptions,
): Promise<TreeSource> {
  const wanted = attestations.filter((one) => !isInlineOnly(one));
  if (wanted.length === 0) return tree;
  const { signal } = options;
  const read = await readAttestations(wanted, { mount: services.mount, signal });
  const statements = statementsOf(read, await subjectsIn(tree, dir, services.jobs, signal));
  const now = BigInt(Math.floor(Date.now() / 1000)) * NS_PER_S;
  const files = new Map<string, AddedFile>();
  for (const [i, { data }] of statements.entries()) {
    const name = fileName(read[i]!.path, options);
    if (files.has(name)) throw new BuildError(`duplicate attestation path name ${name}`);
    const text = Buffer.from(indentJson(data.toString(), '  '));
    files.set(name, { stat: fileStat(name, text.length, options.timeNs ?? now), text });
  }
  return merged(tree, files);
}

function fileName(path: string, { prefix, platform }: AttestationFilesOptions): string {
  const name = prefix + posix.basename(path);
  if (platform === '') return name;
  const end = name.slice(name.lastIndexOf('.'));
  return name.includes('.') ? `${name.slice(0, -end.length)}.${platform}${end}` : `${name}.${platform}`;
}

async function subjectsIn(
  tree: TreeSource,
  dir: string,
  jobs: JobRunner<ExporterJobs>,
  signal: AbortSignal,
): Promise<Subject[]> {
  const paths: string[] = [];
  for await (const { path, mode } of tree.entries()) if (hasData(mode)) paths.push(path);
  const digests = await jobs.run('fileDigests', { dir, paths }, { signal });
  return paths.map((name, i) => ({ name, digest: digestSet(digests[i]!) }));
}

interface AddedFile {
  readonly stat: FsStat;
  readonly text: Uint8Array;
}

function fileStat(path: string, size: number, modTime: bigint): FsStat {
  const nothing = { uid: 0, gid: 0, linkname: '', devmajor: 0, devminor: 0, xattrs: undefined };
  return { ...nothing, path, mode: FILE_MODE, size, modTime };
}

/** The tree with `files` in its root; they take the place of others of their name. */
function merged(tree: TreeSource, files: ReadonlyMap<string, AddedFile>): TreeSource {
  const added = [...files.values()].map(({ stat }) => stat).sort((a, b) => comparePaths(a.path, b.path));
  return {
    async *entries() {
      let next = 0;
      for await (const stat of tree.entries()) {
        for (; added[next] && comparePaths(added[next]!.path, stat.path) < 0; next++)
          yield { ...added[next]! };
        if (!files.has(stat.path)) yield stat;
      }
      for (const stat of added.slice(next)) yield { ...stat };
    },
    read(path) {
      const file = files.get(path);
      return file ? [file.text] : tree.read(path);
    },
  };
}
