import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { digestOf } from '../base/digest.ts';
import { BuildError } from '../base/errors.ts';
import { goJson } from '../base/gojson.ts';
import { ENABLED_CAPS, UNSERVED_CAPS } from '../llb/caps.ts';
import type { Definition } from '../llb/ops.ts';
import { formatPlatformFull, parsePlatform } from '../oci/platform.ts';
import { definitionJson } from './definition-json.ts';
import { buildDockerfile } from './dockerfile.ts';

/** What BuildKit v0.32 solves, answers and warns of for the same files, options and images. */
interface Golden {
  /** Configs by reference and platform. */
  readonly images: Readonly<Record<string, string>>;
  readonly cases: readonly GoldenCase[];
}

interface GoldenCase {
  readonly file: string;
  readonly options?: Readonly<Record<string, string>>;
  readonly ignore?: string;
  /** A hash of each graph with its metadata and source map, sorted. */
  readonly solved: readonly string[];
  /** A hash of the result's metadata. */
  readonly result: string;
  readonly warnings?: readonly string[];
}

const golden = JSON.parse(
  readFileSync(new URL('../../test/golden/frontend.json', import.meta.url), 'utf8'),
) as Golden;

const short = (text: string): string => createHash('sha256').update(text).digest('hex').slice(0, 16);

/** Without the ids of groups of steps, which are random. */
const hashOf = (definition: Definition): string =>
  short(goJson(definitionJson(definition)).replace(/("progress_group":\{"id":)"[^"]*"/g, '$1""'));

async function build({ file, options = {}, ignore }: GoldenCase): Promise<Required<GoldenCase>> {
  const solved: string[] = [];
  const warnings: string[] = [];
  const name = options.filename ?? 'Dockerfile';
  const files = new Map([
    [name, file],
    ...(ignore === undefined ? [] : [['.dockerignore', ignore] as const]),
  ]);
  const readFile = async (path: string): Promise<Uint8Array> => {
    const content = files.get(path);
    if (content === undefined) throw new BuildError(`open ${path}: no such file or directory`);
    return Buffer.from(content);
  };
  const result = await buildDockerfile<object>({
    options: new Map(Object.entries({ ...options, cmdline: 'docker/dockerfile:labs' })),
    sessionId: 'thesession',
    workerPlatforms: [parsePlatform('linux/amd64')],
    caps: new Set([...ENABLED_CAPS, ...UNSERVED_CAPS]),
    inputs: {},
    signal: new AbortController().signal,
    solve: async (definition) => {
      solved.push(hashOf(definition));
      return { value: {}, readFile, newestIn: async () => undefined };
    },
    resolveImage: async (ref, { platform }) => {
      const config = golden.images[`${ref} ${formatPlatformFull(platform)}`];
      if (config === undefined) throw new BuildError(`${ref}: not found`);
      return { ref, digest: digestOf(config), config: Buffer.from(config) };
    },
    resolveLayout: async () => assert.fail('no layouts here'),
    describeSource: async (source) => ({ source }),
    served: ['docker.io/docker/dockerfile'],
    runFrontend: () => Promise.reject(new Error('no other frontend')),
    warn: ({ short: text }) => warnings.push(Buffer.from(text).toString()),
  });
  const metadata = [...result.metadata].map(([key, value]) => `${key}=${Buffer.from(value).toString()}\n`);
  return {
    file,
    options,
    ignore: ignore ?? '',
    solved: solved.toSorted(),
    result: short(metadata.toSorted().join('')),
    warnings: warnings.toSorted(),
  };
}

test('graphs, metadata, source maps, configs and warnings are those of BuildKit', async () => {
  assert.ok(golden.cases.length > 90);
  for (const expected of golden.cases) {
    const { solved, result, warnings } = await build(expected);
    const label = `${expected.file}\n${JSON.stringify(expected.options)}`;
    assert.deepEqual(warnings, expected.warnings ?? [], label);
    assert.equal(result, expected.result, label);
    assert.deepEqual(solved, expected.solved, label);
  }
});
