import { BuildError } from '../../base/errors.ts';
import { convertDockerfile } from '../../dockerfile/convert/convert.ts';
import { encodeImage } from '../../dockerfile/convert/image.ts';
import { findDirective, findSyntax } from '../../dockerfile/directives.ts';
import { locationsOf } from '../../dockerfile/errors.ts';
import { type ExpandOptions, expand, variablesOf } from '../../dockerfile/expand.ts';
import { heredocWord } from '../../dockerfile/heredoc.ts';
import { parseStages } from '../../dockerfile/instructions/parse.ts';
import { memoryBytes, parseDuration } from '../../dockerfile/instructions/units.ts';
import { parseDockerfile } from '../../dockerfile/parser.ts';
import { ENABLED_CAPS, UNSERVED_CAPS } from '../../llb/caps.ts';
import { marshal } from '../../llb/marshal.ts';
import { local } from '../../llb/source.ts';
import { readIgnoreFile } from '../../match/ignorefile.ts';
import { PatternMatcher } from '../../match/patterns.ts';
import { Grammar } from './grammar.ts';
import { mutate } from './mutate.ts';
import { Random } from './random.ts';

export type FuzzKind = 'file' | 'directives' | 'expand' | 'heredoc' | 'ignore' | 'units';

export interface FuzzCase {
  readonly kind: FuzzKind;
  readonly text: string;
  /** Of expansions. */
  readonly env: readonly string[];
  readonly options: ExpandOptions;
  /** Of ignore files. */
  readonly paths: readonly string[];
  readonly buildArgs: ReadonlyMap<string, string>;
}

/** Files are what users bring, so they come most often. */
const KINDS: readonly FuzzKind[] = [
  ...Array<FuzzKind>(6).fill('file'),
  'directives',
  'expand',
  'expand',
  'heredoc',
  'ignore',
  'units',
];
const CONFIG = Buffer.from(
  JSON.stringify({
    architecture: 'amd64',
    os: 'linux',
    config: { Env: ['PATH=/usr/bin:/bin'], Cmd: ['/bin/sh'] },
    rootfs: { type: 'layers', diff_ids: [`sha256:${'2'.repeat(64)}`] },
  }),
);
const DIGEST = `sha256:${'1'.repeat(64)}`;

/** Case number `index` of a seed. */
export function makeCase(seed: number, index: number): FuzzCase {
  const random = new Random(Math.imul(seed, 0x9e3779b1) + Math.imul(index, 0x85ebca6b));
  const grammar = new Grammar(random);
  const kind = random.pick(KINDS);
  const flag = (): boolean => random.once(3);
  return {
    kind,
    text: damaged(sourceOf(kind, grammar, random), random),
    env: random.list(4, () => grammar.pair()),
    options: {
      escape: random.pick(['\\', '\\', '`']),
      rawQuotes: flag(),
      rawEscapes: flag(),
      ignoreQuotes: flag(),
      keepUnset: flag(),
    },
    paths: random.list(5, () => random.pick(['a', 'b.txt', 'a/b', 'a/b/c.txt', 'é', '*', 'x/y/z', 'a\\b'])),
    buildArgs: new Map(
      random.once(3) ? [[random.pick(['A', 'B', 'HTTP_PROXY', 'SOURCE_DATE_EPOCH']), grammar.word()]] : [],
    ),
  };
}

/** Half of the cases stay as the grammar made them: readers get farther then. */
function damaged(text: string, random: Random): string {
  return random.once(2) ? text : mutate(text, random);
}

function sourceOf(kind: FuzzKind, grammar: Grammar, random: Random): string {
  switch (kind) {
    case 'file':
      return grammar.file();
    case 'directives':
      return `${random.list(4, () => grammar.directive()).join('\n')}\n`;
    case 'expand':
      return random.once(2) ? grammar.expression() : grammar.words(4);
    case 'heredoc':
      return grammar.heredoc('').split('\n', 1)[0]!;
    case 'ignore':
      return grammar.ignore();
    case 'units':
      return random.pick(['1h30m', '1.5s', '64m', '1.5GiB', '-2ms', '1e3k', '.5', '0', '9e9p']);
  }
}

/** What a well-behaved reader did. Anything else is thrown. */
export type Outcome = { readonly accepted: boolean; readonly message: string };

/** @throws when a reader fails in a way that is not an answer to the user */
export async function runCase(input: FuzzCase): Promise<Outcome> {
  try {
    await READERS[input.kind](input);
    return { accepted: true, message: '' };
  } catch (error) {
    for (let cause = error; cause !== undefined; cause = (cause as Error).cause)
      if (!(cause instanceof BuildError)) throw new Error('not an answer to the user', { cause });
    checkLocations(error, input.text);
    return { accepted: false, message: (error as BuildError).message };
  }
}

function checkLocations(error: unknown, text: string): void {
  const last = text.split('\n').length;
  for (const { start, end } of locationsOf(error).flat())
    if (start.line < 0 || end.line < start.line || end.line > last)
      throw new Error(`lines ${start.line}-${end.line} of ${last}`, { cause: error });
}

const READERS: Readonly<Record<FuzzKind, (input: FuzzCase) => unknown>> = {
  file: readFile,
  directives: readDirectives,
  expand: ({ text, env, options }) => expand(text, variablesOf(env), options),
  heredoc: ({ text }) => heredocWord(text),
  ignore: ({ text, paths }) => {
    const matcher = new PatternMatcher(readIgnoreFile(text));
    for (const path of paths) matcher.matchesOrParentMatches(path);
  },
  units: ({ text }) => {
    memoryBytes(text);
    return parseDuration(text);
  },
};

function readDirectives({ text }: FuzzCase): void {
  for (const name of ['syntax', 'escape', 'check'] as const) findDirective(text, name);
  findSyntax(text);
}

async function readFile(input: FuzzCase): Promise<void> {
  readDirectives(input);
  if (input.text !== '') checkNodes(input.text);
  const { definition, image } = await convertCase(input);
  if (definition.def.some((bytes) => bytes.length === 0)) throw new Error('an empty op');
  JSON.parse(Buffer.from(image).toString());
}

/** Instructions follow each other, each with at least one line. */
function checkNodes(text: string): void {
  const { nodes } = parseDockerfile(text);
  let before = 0;
  for (const { startLine, endLine } of nodes) {
    if (startLine <= before || endLine < startLine) throw new Error(`lines ${startLine}-${endLine}`);
    before = endLine;
  }
  parseStages(nodes);
}

/** The graph and the image config, with every rule checked. */
export async function convertCase(
  { text, buildArgs }: Pick<FuzzCase, 'text' | 'buildArgs'>,
  warn: (rule: string, message: string, line: number) => void = () => undefined,
) {
  const caps = new Set([...ENABLED_CAPS, ...UNSERVED_CAPS]);
  const result = await convertDockerfile(text, {
    buildArgs,
    labels: new Map(),
    target: '',
    buildPlatforms: [{ os: 'linux', architecture: 'amd64' }],
    multiPlatform: false,
    networkMode: 'sandbox',
    hostname: '',
    extraHosts: [],
    shmSize: 0n,
    ulimits: [],
    cgroupParent: '',
    imageResolveMode: 'default',
    cacheIdNamespace: '',
    isNoCache: () => false,
    caps,
    sourceMap: { filename: 'Dockerfile', language: 'Dockerfile', data: Buffer.from(text) },
    resolveImage: async (ref) => ({ ref, digest: DIGEST, config: CONFIG }),
    namedContext: () => undefined,
    mainContext: async () =>
      local('context', { sharedKeyHint: 'context', customName: '[internal] load build context' }),
    warn: ({ rule, message, location }) => warn(rule, message, location[0]?.start.line ?? 0),
  });
  const definition = marshal(result.state, { platform: result.platform, caps, localUniqueId: 'unique' });
  result.outline();
  return { definition, image: encodeImage(result.image) };
}
