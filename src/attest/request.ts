import { parseGitRef } from '../giturl/git-ref.ts';
import { redactCredentials } from '../giturl/redact.ts';
import { cleanPath } from '../match/paths.ts';
import { type Capture, digestSet } from './capture.ts';

export type DigestSet = Readonly<Record<string, string>>;

/** Where the instructions of a build came from. */
export interface ConfigSource {
  readonly uri?: string;
  readonly digest?: DigestSet;
  readonly path?: string;
}

/** What a frontend was asked. */
export interface RequestParameters {
  readonly frontend: string;
  readonly args: Readonly<Record<string, string>>;
  /** Requests that the inputs of this one came from, by the input's name. */
  readonly inputs: Readonly<Record<string, RequestRecord>>;
}

/** One request as provenance tells of it. */
export interface RequestRecord {
  readonly configSource: ConfigSource;
  readonly request: RequestParameters;
}

/** Options that tell of the machine, not of the build. */
const HOST_OPTIONS = new Set(['cgroup-parent', 'image-resolve-mode', 'platform', 'cache-imports']);
const CONTEXT = 'context';

/** The options of a request that provenance tells of (FEATURES J39). */
export function toldOptions(options: Readonly<Record<string, string>>): Record<string, string> {
  const context = options.contextkey || CONTEXT;
  const told = Object.entries(options).filter(
    ([key]) => !HOST_OPTIONS.has(key) && !key.startsWith('attest:'),
  );
  return Object.fromEntries(
    told.map(([key, value]) => {
      const isAddress = key === context || key.startsWith(`${CONTEXT}:`) || key === 'vcs:source';
      return [key, isAddress ? redactCredentials(value) : value];
    }),
  );
}

/** The request with its main context and file told apart from its options. */
export function requestRecord(
  frontend: string,
  options: Readonly<Record<string, string>>,
  inputs: Readonly<Record<string, RequestRecord>>,
  capture: Capture | undefined,
): RequestRecord {
  const args = toldOptions(options);
  const contextKey = args.contextkey || (args['input:context'] ? 'input:context' : CONTEXT);
  const context = args[contextKey];
  const path = args.filename;
  if (context) delete args[contextKey];
  if (path) delete args.filename;
  const material = context && capture ? findMaterial(context, capture) : undefined;
  return {
    configSource: {
      ...(context ? { uri: redactCredentials(material?.uri ?? context) } : {}),
      ...(material ? { digest: material.digest } : {}),
      ...(path ? { path } : {}),
    },
    request: { frontend, args, inputs },
  };
}

/** The captured source that the main context is. */
function findMaterial(context: string, capture: Capture): { uri: string; digest: DigestSet } | undefined {
  const url = gitAddress(context, false) ?? context;
  const git = capture.git.find((one) => one.url === url);
  if (git) return { uri: gitAddress(context, true) ?? context, digest: commitDigest(git.commit) };
  const http = capture.http.find((one) => one.url === url);
  return http && { uri: http.url, digest: digestSet(http.digest) };
}

/** `REMOTE#REF:SUBDIR` of whatever form of a repository's address; undefined for what is none. */
function gitAddress(text: string, withSubdir: boolean): string | undefined {
  let parsed: ReturnType<typeof parseGitRef>;
  try {
    parsed = parseGitRef(text);
  } catch {
    return undefined; // a wrong query is the frontend's to refuse
  }
  if (!parsed) return undefined;
  const { remote, ref } = parsed;
  const subdir = withSubdir ? cleanPath(`/${parsed.subdir}`).slice(1) : '';
  if (ref === '' && subdir === '') return remote;
  return `${remote}#${ref}${subdir === '' ? '' : `:${subdir}`}`;
}

export function commitDigest(commit: string): DigestSet {
  return commit.length === 64 ? { sha256: commit } : { sha1: commit };
}

/** Whether two records say the same. */
export function sameRequest(a: RequestRecord, b: RequestRecord): boolean {
  return stable(a) === stable(b);
}

/** JSON with sorted keys. */
function stable(value: unknown): string {
  return JSON.stringify(value, (_, v: unknown) =>
    v !== null && typeof v === 'object' && !Array.isArray(v)
      ? Object.fromEntries(Object.entries(v).sort(([x], [y]) => (x < y ? -1 : 1)))
      : v,
  );
}
