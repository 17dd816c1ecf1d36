import assert from 'node:assert/strict';
import { test } from 'node:test';
import { BuildError } from '../base/errors.ts';
import type { Definition } from '../llb/ops.ts';
import { parsePlatform } from '../oci/platform.ts';
import { buildDockerfile } from './dockerfile.ts';

const CONFIG = {
  architecture: 'amd64',
  os: 'linux',
  config: { Env: ['PATH=/bin'] },
  rootfs: { type: 'layers', diff_ids: [`sha256:${'2'.repeat(64)}`] },
};

interface Answer {
  readonly json: Record<string, unknown>;
  readonly text: string;
  readonly version: string;
  readonly statusCode: string | undefined;
  /** Number of graphs solved: one is for the Dockerfile, one may be for the ignore file. */
  readonly solved: number;
  /** What the client was told beside the answer. */
  readonly warnings: readonly string[];
}

/** Asks `requestid` about the file. */
async function ask(requestid: string, file: string, options: Record<string, string> = {}): Promise<Answer> {
  let solved = 0;
  const warnings: string[] = [];
  const result = await buildDockerfile<Definition>({
    options: new Map(
      Object.entries({ requestid, 'frontend.caps': 'moby.buildkit.frontend.subrequests', ...options }),
    ),
    sessionId: 'session',
    workerPlatforms: [parsePlatform('linux/amd64')],
    caps: new Set(),
    inputs: {},
    signal: new AbortController().signal,
    solve: async (definition) => {
      solved++;
      const readFile = async (path: string) => {
        if (path !== 'Dockerfile') throw new BuildError(`open ${path}: no such file or directory`);
        return Buffer.from(file);
      };
      return { value: definition, readFile, newestIn: async () => undefined };
    },
    resolveImage: async (ref) => ({ ref, digest: '', config: Buffer.from(JSON.stringify(CONFIG)) }),
    resolveLayout: async (ref) => assert.fail(ref),
    describeSource: async (source) => ({ source }),
    served: ['docker.io/docker/dockerfile'],
    runFrontend: () => Promise.reject(new Error('no other frontend')),
    warn: ({ short }) => warnings.push(Buffer.from(short).toString()),
  });
  assert.equal(result.ref, null);
  const get = (key: string): string | undefined => {
    const value = result.metadata.get(key);
    return value && Buffer.from(value).toString();
  };
  return {
    json: JSON.parse(get('result.json') ?? ''),
    text: get('result.txt') ?? '',
    version: get('version') ?? '',
    statusCode: get('result.statuscode'),
    solved,
    warnings,
  };
}

const at = (line: number) => ({ ranges: [{ start: { line }, end: { line } }] });
const base64 = (text: string): string => Buffer.from(text).toString('base64');

test('describe lists what can be asked', async () => {
  const { json, text, version } = await ask('frontend.subrequests.describe', 'FROM scratch\n');
  const list = json as unknown as { name: string; opts: unknown; inputs: unknown; metadata: unknown }[];
  assert.deepEqual(
    list.map(({ name }) => name),
    ['frontend.outline', 'frontend.targets', 'frontend.subrequests.describe'],
  );
  assert.deepEqual(
    list.map(({ opts }) => opts),
    [[{ name: 'target', description: 'Target build stage' }], [], null],
  );
  assert.deepEqual(list[0]?.metadata, [
    { name: 'result.json', description: '' },
    { name: 'result.txt', description: '' },
  ]);
  assert.equal(list[0]?.inputs, null);
  assert.equal(version, '1.0.0');
  assert.deepEqual(text.split('\n').slice(0, 2), [
    'NAME                 VERSION DESCRIPTION',
    'outline              1.0.0   List all parameters current build target supports',
  ]);
});

test('targets are listed as they are written', async () => {
  const file =
    'ARG X=busybox\n# build makes it\nFROM --platform=$BUILDPLATFORM $X AS build\nRUN x\nFROM build\n';
  const { json, text, solved } = await ask('frontend.targets', file);
  assert.deepEqual(json, {
    targets: [
      {
        name: 'build',
        description: 'makes it',
        base: '$X',
        platform: '$BUILDPLATFORM',
        location: at(3),
      },
      { default: true, base: 'build', location: at(5) },
    ],
    sources: [base64(file)],
  });
  assert.equal(text, 'TARGET    DESCRIPTION\nbuild     makes it\n(default) \n');
  assert.equal(solved, 1);
});

const PARAMETERS = `ARG base=box
ARG other
# image is where it starts
ARG image=busy\${base}
FROM $image AS first
# KEY is a number
ARG KEY=1
RUN --mount=type=secret,target=/etc/passwd,required=true --mount=type=ssh true
FROM alpine AS unused
ARG UNUSED
RUN --mount=type=secret,id=unused true
FROM scratch AS third
ARG BAR
ARG other=x
RUN --mount=type=secret,id=second$BAR true
# target is the result
FROM third AS target
COPY --from=first /foo /
RUN --mount=type=ssh,id=other,required true
`;

test('an outline has what the client can give to the target', async () => {
  const { json, text } = await ask('frontend.outline', PARAMETERS, {
    target: 'target',
    'build-arg:BAR': '678',
  });
  assert.deepEqual(json, {
    name: 'target',
    description: 'is the result',
    args: [
      { name: 'base', value: 'box', location: at(1) },
      { name: 'image', description: 'is where it starts', value: 'busybox', location: at(4) },
      { name: 'KEY', description: 'is a number', value: '1', location: at(7) },
      { name: 'BAR', value: '678', location: at(13) },
      { name: 'other', value: 'x', location: at(14) },
    ],
    secrets: [
      { name: 'passwd', required: true, location: at(8) },
      { name: 'second678', location: at(15) },
    ],
    ssh: [
      { name: 'default', location: at(8) },
      { name: 'other', required: true, location: at(19) },
    ],
    sources: [base64(PARAMETERS)],
  });
  assert.equal(
    text,
    `TARGET:      target
DESCRIPTION: is the result

BUILD ARG   VALUE     DESCRIPTION
base        box${' '.repeat(7)}
image       busybox   is where it starts
KEY         1         is a number
BAR         678${' '.repeat(7)}
other       x${' '.repeat(9)}

SECRET      REQUIRED
passwd      true
second678${' '.repeat(3)}

SSH       REQUIRED
default${' '.repeat(3)}
other     true

`,
  );
});

test('broken rules are told on the way to an outline, and are the answer to lint', async () => {
  const file = 'FROM busybox\nCMD x\n';
  const [warning] = (await ask('frontend.outline', file)).warnings;
  assert.match(warning ?? '', /^JSONArgsRecommended: .* \(line 2\)$/);
  assert.deepEqual((await ask('frontend.lint', file)).warnings, []);
});

test('a default that adds to earlier ones brings them along', async () => {
  const file = 'ARG A=1\nARG B=b\nARG C=c\nARG A=$A$B\nARG D=$A\nFROM scratch\nARG D\n';
  const { json } = await ask('frontend.outline', file);
  assert.deepEqual(json.args, [
    { name: 'B', value: 'b', location: at(2) },
    { name: 'A', value: '1b', location: at(4) },
    { name: 'D', value: '1b', location: at(5) },
  ]);
  assert.equal('name' in json || 'secrets' in json, false);
});

test('lint answers with warnings of all stages, or of those that the target needs', async () => {
  const file = 'FROM busybox AS a\nCMD x\nFROM scratch AS B\nCOPY x /\n';
  const all = await ask('frontend.lint', file);
  const { warnings, sources } = all.json as {
    warnings: { ruleName: string; detail: string; url: string; location: unknown }[];
    sources: { filename: string; data: string; language: string; definition: object }[];
  };
  assert.deepEqual(
    warnings.map(({ ruleName, location }) => [ruleName, location]),
    [
      ['StageNameCasing', at(3)],
      ['JSONArgsRecommended', at(2)],
    ],
  );
  assert.equal(sources[0]?.filename, 'Dockerfile');
  assert.equal(sources[0]?.data, base64(file));
  assert.ok(sources[0]?.definition);
  assert.equal(all.statusCode, '1');
  assert.equal(
    all.text,
    `
WARNING: JSONArgsRecommended - https://docs.docker.com/go/dockerfile/rule/json-args-recommended/
JSON arguments recommended for CMD to prevent unintended behavior related to OS signals
Dockerfile:2
--------------------
   1 |     FROM busybox AS a
   2 | >>> CMD x
   3 |     FROM scratch AS B
   4 |     COPY x /
--------------------

WARNING: StageNameCasing - https://docs.docker.com/go/dockerfile/rule/stage-name-casing/
Stage name 'B' should be lowercase
Dockerfile:3
--------------------
   1 |     FROM busybox AS a
   2 |     CMD x
   3 | >>> FROM scratch AS B
   4 |     COPY x /
   5 |     
--------------------
`,
  );
  const one = await ask('frontend.lint', file, { target: 'b' });
  assert.equal((one.json.warnings as unknown[]).length, 1);
});

test('lint of a good file, and of one that does not build', async () => {
  const good = await ask('frontend.lint', 'FROM scratch\nCOPY a /\n');
  assert.deepEqual([good.json.warnings, good.statusCode, good.text], [null, '0', '']);
  assert.equal('buildError' in good.json, false);
  const bad = await ask('frontend.lint', 'FROM scratch\nCOPY a /\nBAD x\n');
  assert.deepEqual(bad.json.buildError, {
    message: 'dockerfile parse error on line 3: unknown instruction: BAD (did you mean ADD?)',
    location: at(3),
  });
  assert.deepEqual([bad.json.warnings, bad.statusCode], [null, '1']);
});

test('lint describes where the file came from, with tables in order', async () => {
  const { json } = await ask('frontend.lint', 'FROM scratch\n');
  const [{ definition }] = json.sources as [{ definition: Record<string, object> }];
  assert.deepEqual(Object.keys(definition), ['def', 'metadata', 'Source']);
  const digests = Object.keys(definition.metadata!);
  assert.deepEqual(digests, digests.toSorted());
  const [local] = Object.keys((definition.Source as { locations: object }).locations);
  assert.ok(digests.includes(local!));
});

test('an error of an answer has no lines of the file', async () => {
  for (const request of ['frontend.outline', 'frontend.targets', 'frontend.convertllb']) {
    await assert.rejects(ask(request, 'FROM scratch\nBAD x\n'), (error: BuildError) => {
      assert.match(error.message, /unknown instruction: BAD/);
      assert.deepEqual(error.details, []);
      return true;
    });
  }
});

test('convertllb answers with the graph in JSON', async () => {
  const file =
    'FROM busybox\nRUN --network=none --mount=type=cache,target=/c,sharing=locked a && b\nCOPY --chown=7 x /\n';
  const { json, text, version } = await ask('frontend.convertllb', file);
  assert.deepEqual([text, version], ['', '0.1.0']);
  const ops = Object.values(json.def as Record<string, Record<string, Record<string, unknown>>>);
  const exec = ops.find((op) => op.exec)?.exec;
  assert.deepEqual(Object.keys(exec!), ['meta', 'mounts', 'network']);
  assert.equal(exec?.network, 'NONE');
  assert.deepEqual(exec?.mounts, [
    { dest: '/' },
    {
      input: '-1',
      dest: '/c',
      output: '-1',
      mountType: 'CACHE',
      cacheOpt: { ID: '//c', sharing: 'LOCKED' },
    },
  ]);
  const copying = ops.find((op) => op.file)?.file ?? {};
  const [copy] = copying.actions as [Record<string, Record<string, unknown>>];
  // A choice is there though its value is zero, and 64-bit numbers are text.
  assert.deepEqual(copy?.copy?.owner, { user: { byID: 7 } });
  assert.equal(copy?.secondaryInput, '1');
  assert.equal(copy?.copy?.timestamp, '-1');
  assert.deepEqual(
    Object.keys(json.metadata as object).toSorted(),
    Object.keys(json.def as object).toSorted(),
  );
  const { locations, infos } = json.source as { locations: object; infos: { data: string }[] };
  assert.equal(infos[0]?.data, base64(file));
  assert.ok(Object.values(locations).some((value) => JSON.stringify(value).includes('"line":2')));
});
