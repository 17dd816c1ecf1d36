import { BuildError } from '../base/errors.ts';
import { type GitUrl, gitUrlOf, parseGitUrl } from './git-url.ts';
import { parseGoUrl } from './go-url.ts';

/** What a build context or an ADD asks of a repository (FEATURES H20). */
export interface GitRef {
  /** Address of the repository; without scheme when `looksLocal`. */
  readonly remote: string;
  /** Branch, tag or commit; '' = the default branch. */
  readonly ref: string;
  /** Name of the commit, or its beginning; '' = not checked. */
  readonly checksum: string;
  readonly subdir: string;
  /** `github.com/…`: for a context an address, for ADD a path. */
  readonly looksLocal: boolean;
  readonly keepGitDir: boolean | undefined;
  readonly submodules: boolean | undefined;
  /** '' = not said. */
  readonly mtime: '' | 'checkout' | 'commit';
  readonly fetchByCommit: boolean;
}

const LEGACY_HOST = 'github.com/';
const TAGS = 'refs/tags/';
const HEADS = 'refs/heads/';

/**
 * Reads the address of a repository; undefined for a text that is none.
 * @throws BuildError when it is one and its query is wrong
 */
export function parseGitRef(text: string): GitRef | undefined {
  if (text.startsWith('./') || text.startsWith('../')) return undefined;
  const looksLocal = text.startsWith(LEGACY_HOST);
  let url: GitUrl;
  try {
    url = looksLocal ? gitUrlOf(parseGoUrl(text), 'https') : parseGitUrl(text);
  } catch {
    return undefined; // no address at all
  }
  const web = url.scheme === 'http' || url.scheme === 'https';
  if (web && !looksLocal && !url.path.endsWith('.git')) return undefined;
  return {
    remote: looksLocal ? url.remote.replace(/^https:\/\//, '') : url.remote,
    looksLocal,
    ...new QueryReader(url).read(),
  };
}

type FromQuery = Omit<GitRef, 'remote' | 'looksLocal'>;

class QueryReader {
  readonly #query: GitUrl['query'];
  readonly #fragment: { readonly ref: string; readonly subdir: string };

  constructor(url: GitUrl) {
    this.#query = url.query;
    this.#fragment = url;
  }

  read(): FromQuery {
    for (const [key, values] of this.#query) checkPair(key, values);
    const ref = this.#merged('ref', this.#fragment.ref);
    const subdir = this.#merged('subdir', this.#fragment.subdir);
    return {
      ref: this.#named(ref),
      subdir,
      checksum: this.#last('checksum', 'commit'),
      keepGitDir: this.#flag('keep-git-dir'),
      submodules: this.#flag('submodules'),
      mtime: this.#mtime(),
      fetchByCommit: this.#flag('fetch-by-commit') ?? false,
    };
  }

  #get(key: string): string {
    return this.#query.get(key)?.[0] ?? '';
  }

  /** Two keys for one thing: the later counts. */
  #last(...keys: readonly string[]): string {
    const given = [...this.#query.keys()].filter((key) => keys.includes(key));
    return this.#get(given.at(-1) ?? '');
  }

  #merged(key: string, fragment: string): string {
    const value = this.#get(key);
    if (value === '') return fragment;
    if (fragment !== '' && fragment !== value)
      throw new BuildError(`${key} conflicts: ${JSON.stringify(fragment)} vs ${JSON.stringify(value)}`);
    return value;
  }

  /** Tags and branches are refs of whole name. */
  #named(ref: string): string {
    const tag = withPrefix(TAGS, this.#get('tag'));
    const branch = withPrefix(HEADS, this.#get('branch'));
    if (tag !== '' && ref !== '' && ref !== tag) throw conflict(ref, tag);
    if (tag !== '' && branch !== '') throw new BuildError('branch conflicts with tag');
    if (branch !== '' && ref !== '' && ref !== branch) throw conflict(ref, branch);
    return tag || branch || ref;
  }

  #flag(key: string): boolean | undefined {
    if (!this.#query.has(key)) return undefined;
    const text = this.#get(key);
    if (['', '1', 't', 'T', 'TRUE', 'true', 'True'].includes(text)) return true;
    if (['0', 'f', 'F', 'FALSE', 'false', 'False'].includes(text)) return false;
    throw new BuildError(`invalid ${key} value: ${JSON.stringify(text)}`);
  }

  #mtime(): GitRef['mtime'] {
    const text = this.#get('mtime');
    if (text === '' || text === 'checkout' || text === 'commit') return text;
    throw new BuildError(`invalid mtime value: ${JSON.stringify(text)} (must be "checkout" or "commit")`);
  }
}

const FLAGS: ReadonlySet<string> = new Set(['keep-git-dir', 'submodules', 'fetch-by-commit']);
const KEYS: ReadonlySet<string> = new Set([
  ...FLAGS,
  'ref',
  'tag',
  'branch',
  'subdir',
  'checksum',
  'commit',
  'mtime',
]);

function checkPair(key: string, values: readonly string[]): void {
  const name = JSON.stringify(key);
  if (values.length > 1) throw new BuildError(`query ${name} has multiple values`);
  if (values[0] === '' && !FLAGS.has(key)) throw new BuildError(`query ${name} has no value`);
  if (!KEYS.has(key)) throw new BuildError(`unexpected query ${name}`);
}

function withPrefix(prefix: string, name: string): string {
  return name === '' || name.startsWith(prefix) ? name : prefix + name;
}

function conflict(ref: string, other: string): BuildError {
  return new BuildError(`ref conflicts: ${JSON.stringify(ref)} vs ${JSON.stringify(other)}`);
}
