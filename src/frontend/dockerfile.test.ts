import assert from 'node:assert/strict';
import { test } from 'node:test';
import { gzipSync } from 'node:zlib';
import { digestOf } from '../base/digest.ts';
import { BuildError, Code } from '../base/errors.ts';
import { marshal } from '../llb/marshal.ts';
import { type Definition, Op } from '../llb/ops.ts';
import { image as imageSource } from '../llb/source.ts';
import { parsePlatform } from '../oci/platform.ts';
import type { VertexWarning } from '../solver/types.ts';
import { Bridge } from './bridge.ts';
import { buildDockerfile } from './dockerfile.ts';
import { RequestStore } from './requests.ts';
import { type FrontendBridge, NoImage } from './build-bridge.ts';
import { daemonBridge } from './dockerfile-bridge.ts';

type Files = Readonly<Record<string, string | Uint8Array>>;

interface Fake {
  readonly bridge: FrontendBridge<Definition>;
  readonly solved: Definition[];
  readonly asked: string[];
  readonly warnings: VertexWarning[];
}

const CONFIG = {
  architecture: 'amd64',
  os: 'linux',
  config: { Env: ['PATH=/bin'] },
  rootfs: { type: 'layers', diff_ids: [`sha256:${'2'.repeat(64)}`] },
};

/** A build whose local folders, by name, and downloads, by address, hold `trees`. */
function fake(
  trees: Readonly<Record<string, Files>>,
  options: Record<string, string> = {},
  inputs: Record<string, Definition> = {},
): Fake {
  const solved: Definition[] = [];
  const asked: string[] = [];
  const warnings: VertexWarning[] = [];
  const bridge: FrontendBridge<Definition> = {
    options: new Map(Object.entries(options)),
    sessionId: 'session',
    workerPlatforms: [parsePlatform('linux/amd64')],
    caps: new Set(),
    inputs,
    signal: new AbortController().signal,
    solve: async (definition) => {
      solved.push(definition);
      if (definition.def.length === 0) return null;
      const files = trees[identifierOf(definition).replace(/^local:\/\//, '')] ?? {};
      const readFile = async (path: string) => {
        const content = files[path];
        if (content === 'too large')
          throw new BuildError(`${path} is too large`, { code: Code.resourceExhausted });
        if (content === undefined) throw new BuildError(`open ${path}: no such file or directory`);
        return Buffer.from(content);
      };
      const newestIn = async (path: string) => (path in files ? 1234 : undefined);
      return { value: definition, readFile, newestIn };
    },
    resolveImage: async (ref, { logName }) => {
      asked.push(logName);
      if (ref.includes('moved')) throw new NoImage(ref, `docker-image://${ref}`);
      if (ref.includes('folder')) throw new NoImage(ref, 'local://extra');
      if (ref.includes('elsewhere')) throw new NoImage(ref, 'https://example.com/file');
      if (ref.includes('missing')) throw new BuildError(`${ref}: not found`, { code: Code.notFound });
      const onBuild = ref.includes('onbuild') ? { OnBuild: ['COPY --from=other /a /b'] } : {};
      const config = JSON.stringify({ ...CONFIG, config: { ...CONFIG.config, ...onBuild } });
      return { ref, digest: `sha256:${'1'.repeat(64)}`, config: Buffer.from(config) };
    },
    resolveLayout: async (ref, { storeId }, { logName }) => {
      asked.push(`${logName} in ${storeId}`);
      return { ref, digest: `sha256:${'1'.repeat(64)}`, config: Buffer.from(JSON.stringify(CONFIG)) };
    },
    describeSource: async (source, logName) => {
      asked.push(logName);
      const isHttp = source.identifier.startsWith('http');
      const lastModified = source.identifier.includes('dated') ? { lastModified: new Date(5_999) } : {};
      return { source, ...(isHttp ? { http: { checksum: '', filename: '', ...lastModified } } : {}) };
    },
    served: ['docker.io/docker/dockerfile', 'docker.io/docker/dockerfile-upstream'],
    runFrontend: () => Promise.reject(new Error('no other frontend')),
    warn: (warning) => warnings.push(warning),
  };
  return { bridge, solved, asked, warnings };
}

const opsOf = (definition: Definition): Op[] => definition.def.map((bytes) => Op.decode(bytes));

function identifierOf(definition: Definition): string {
  const [first] = opsOf(definition);
  return first?.op?.$case === 'source' ? first.op.value.identifier : '';
}

function sourceOf(definition: Definition, identifier: string): Record<string, string> | undefined {
  for (const { op } of opsOf(definition)) {
    if (op?.$case === 'source' && op.value.identifier === identifier) return op.value.attrs;
  }
  return undefined;
}

const namesOf = (definition: Definition): string[] =>
  definition.def.flatMap(
    (bytes) => definition.metadata[digestOf(bytes)]?.description['llb.customname'] ?? [],
  );

const dockerfile = (text: string, more: Files = {}) => ({ dockerfile: { Dockerfile: text, ...more } });

test('a local build reads the Dockerfile, the ignore file and the context', async () => {
  const trees = {
    ...dockerfile('FROM busybox\nCOPY a b /\nRUN x'),
    context: { '.dockerignore': '# c\n/tmp\n!x\n' },
  };
  const { bridge, solved } = fake(trees, { 'label:a': 'b' });
  const result = await buildDockerfile(bridge);
  const [file, ignore, build] = solved;
  assert.deepEqual(namesOf(file!), ['[internal] load build definition from Dockerfile']);
  assert.deepEqual(sourceOf(file!, 'local://dockerfile'), {
    'local.session': 'session',
    'local.followpaths': '["Dockerfile","Dockerfile.dockerignore","dockerfile"]',
    'local.sharedkeyhint': 'dockerfile',
    'local.differ': 'none',
  });
  assert.deepEqual(namesOf(ignore!), ['[internal] load .dockerignore']);
  assert.deepEqual(sourceOf(build!, 'local://context'), {
    'local.session': 'session',
    'local.excludepatterns': '["tmp","!x"]',
    'local.followpaths': '["a","b"]',
    'local.sharedkeyhint': 'context',
  });
  assert.equal(result.ref, build);
  const config = JSON.parse(Buffer.from(result.metadata.get('containerimage.config')!).toString());
  assert.deepEqual(config.config.Labels, { a: 'b' });
  assert.equal(config.history.at(-1).created_by, 'RUN /bin/sh -c x # buildkit');
  assert.ok(result.metadata.has('containerimage.base.config'));
  assert.match(Buffer.from(result.metadata.get('refs.platforms')!).toString(), /^\{"Platforms":\[\{"ID":"/);
});

test('the ignore file beside the Dockerfile wins over that of the context', async () => {
  const trees = {
    ...dockerfile('FROM busybox\nCOPY . /', { 'Dockerfile.dockerignore': 'own\n' }),
    context: { '.dockerignore': 'no' },
  };
  const { bridge, solved } = fake(trees);
  await buildDockerfile(bridge);
  assert.equal(solved.length, 2);
  assert.equal(sourceOf(solved[1]!, 'local://context')?.['local.excludepatterns'], '["own"]');
});

test('an ignore file that is too large to read is no absent one', async () => {
  const own = dockerfile('FROM scratch\nCOPY . /', { 'Dockerfile.dockerignore': 'too large' });
  const main = { ...dockerfile('FROM scratch\nCOPY . /'), context: { '.dockerignore': 'too large' } };
  for (const trees of [own, main])
    await assert.rejects(buildDockerfile(fake(trees).bridge), { code: Code.resourceExhausted });
});

test('the file may be called dockerfile; without it the error says what was looked for', async () => {
  const { bridge } = fake({ dockerfile: { dockerfile: 'FROM scratch' } });
  assert.equal((await buildDockerfile(bridge)).ref, null);
  await assert.rejects(buildDockerfile(fake({}).bridge), {
    message: 'failed to read dockerfile: open Dockerfile: no such file or directory',
  });
});

test('several platforms give one tree each', async () => {
  const { bridge, asked } = fake(dockerfile('FROM busybox AS a\nFROM busybox\nRUN x'), {
    platform: 'linux/amd64,linux/arm64',
  });
  const result = await buildDockerfile(bridge);
  assert.deepEqual([...(result.refs?.keys() ?? [])], ['linux/amd64', 'linux/arm64']);
  assert.ok(result.metadata.has('containerimage.config/linux/arm64'));
  // Each image is looked up once per platform.
  assert.deepEqual(asked.toSorted(), [
    '[linux/amd64 internal] load metadata for docker.io/library/busybox:latest',
    '[linux/arm64 internal] load metadata for docker.io/library/busybox:latest',
  ]);
});

test('a file that can not be read fetches nothing more', async () => {
  const { bridge, solved } = fake(dockerfile('FROM scratch\nBOGUS'));
  await assert.rejects(buildDockerfile(bridge), /unknown instruction: BOGUS/);
  assert.equal(solved.length, 1);
});

test('errors name the lines of the file', async () => {
  const { bridge, solved } = fake(dockerfile('FROM missing\nRUN x'));
  await assert.rejects(buildDockerfile(bridge), (error: BuildError) => {
    assert.equal(error.message, 'missing: docker.io/library/missing:latest: not found');
    assert.equal(error.code, Code.notFound);
    const [detail] = error.details;
    assert.ok(detail && 'type' in detail && detail.type === 'errdefs.Source');
    assert.deepEqual((detail.value as { ranges: unknown }).ranges, [
      { start: { line: 1 }, end: { line: 1 } },
    ]);
    const { definition } = (detail.value as { info: { definition: { def: string[] } } }).info;
    assert.deepEqual(
      definition.def,
      solved[0]!.def.map((bytes) => Buffer.from(bytes).toString('base64')),
    );
    return true;
  });
});

test('a step without a command fails when the graph is made, behind all findings of the file', async () => {
  const { bridge, warnings } = fake(dockerfile('FROM busybox\nRUN []\nMAINTAINER x'));
  await assert.rejects(buildDockerfile(bridge), {
    message: 'failed to marshal LLB definition: arguments are required',
  });
  assert.equal(warnings.length, 1);
});

test('a syntax directive of a language that the frontend stands in for is noted once', async () => {
  const own = fake(dockerfile('# syntax=docker/dockerfile:1.7\nFROM scratch\nLABEL a=b'));
  await buildDockerfile(own.bridge);
  assert.equal(own.warnings.length, 1);
  assert.match(Buffer.from(own.warnings[0]!.short).toString(), /^docker\/dockerfile:1\.7 /);
  assert.equal(own.warnings[0]!.vertex, digestOf(own.solved[0]!.def[0]!));
  assert.equal(own.warnings[0]!.ranges[0]?.start.line, 1);
});

test('any other syntax is for the frontend in that image, with all options and the whole line', async () => {
  const asked: [string, Readonly<Record<string, string>>][] = [];
  const build = (text: string, options: Record<string, string> = {}, error?: BuildError) => {
    const { bridge, warnings } = fake(dockerfile(text), { target: 't', ...options });
    const result = { ref: null, metadata: new Map([['from', Buffer.from('elsewhere')]]) };
    const runFrontend = async (name: string, own: Readonly<Record<string, string>>) => {
      asked.push([name, own]);
      if (error) throw error;
      return result;
    };
    return { warnings, built: buildDockerfile({ ...bridge, runFrontend }) };
  };
  const other = build('# syntax=example.com/mine:1 --flag\nFROM scratch');
  assert.equal((await other.built).metadata.get('from')?.toString(), 'elsewhere');
  assert.equal(other.warnings.length, 0);
  const own = { target: 't', cmdline: 'example.com/mine:1 --flag', source: 'example.com/mine:1' };
  assert.deepEqual(asked, [['gateway.v0', own]]);

  const argument = { 'build-arg:BUILDKIT_SYNTAX': ' a/b c' };
  await build('# syntax=example.com/mine\nFROM scratch', argument).built;
  assert.deepEqual(asked[1]?.[1], { target: 't', ...argument, cmdline: ' a/b c', source: 'a/b' });
  await build('# syntax=example.com/mine\nFROM scratch AS t', { cmdline: 'x' }).built;
  await build('# syntax=example.com/mine\nFROM scratch AS t', {
    'build-arg:BUILDKIT_SYNTAX': 'dockerfile.v0',
  }).built;
  assert.equal(asked.length, 2);

  // An error is shown at the line of the directive, unless it has a place of its own.
  const failure = new BuildError('no such image', { code: Code.notFound });
  await assert.rejects(build('# syntax=example.com/mine\n', {}, failure).built, (error: BuildError) => {
    assert.equal(error.code, Code.notFound);
    assert.match(error.message, /no such image$/);
    assert.deepEqual(
      error.details.map((d) => 'type' in d && d.type),
      ['errdefs.Source'],
    );
    return true;
  });
  await assert.rejects(build('FROM scratch', argument, failure).built, {
    message: 'failed with build-arg:BUILDKIT_SYNTAX =  a/b c: no such image',
  });
  const placed = failure.with({ type: 'errdefs.Source', value: { ranges: [] } });
  await assert.rejects(build('# syntax=a/b\n', {}, placed).built, (error: BuildError) => {
    assert.equal(error.details.length, 1);
    return true;
  });
});

test('a capability that is only asked for is no reason to refuse a file for another frontend', async () => {
  const caps = { 'frontend.caps': 'example.mine+forward' };
  const { bridge } = fake(dockerfile('# syntax=example.com/mine\nFROM scratch'), caps);
  const result = { ref: null, metadata: new Map() };
  assert.equal(await buildDockerfile({ ...bridge, runFrontend: async () => result }), result);
  const refused = { code: Code.unimplemented, message: 'unsupported frontend capability example.mine' };
  await assert.rejects(buildDockerfile(fake(dockerfile('FROM scratch'), caps).bridge), refused);
});

test('only a syntax of the labs channel makes devices known', async () => {
  const build = (first: string, syntax?: string): Promise<unknown> => {
    const options: Record<string, string> =
      syntax === undefined ? {} : { 'build-arg:BUILDKIT_SYNTAX': syntax };
    const { bridge } = fake(dockerfile(`${first}FROM busybox\nRUN --device=a.b/c true\n`), options);
    return buildDockerfile({ ...bridge, caps: new Set(['exec.meta.cdi']) });
  };
  const refused = { message: /^device feature is only supported in Dockerfile frontend / };
  await assert.rejects(build(''), refused);
  await assert.rejects(build('# syntax=docker/dockerfile:1\n'), refused);
  await assert.rejects(build('# syntax=docker/dockerfile:1-labs\n', 'dockerfile.v0'), refused);
  await build('# syntax=docker/dockerfile:1-labs\n');
  await build('', 'docker/dockerfile-upstream:master-labs');
});

test('requests that are not served answer with their detail', async () => {
  const detailOf = async (options: Record<string, string>) => {
    const error: unknown = await buildDockerfile(fake(dockerfile('FROM scratch'), options).bridge).catch(
      (e) => e,
    );
    assert.ok(error instanceof BuildError);
    return [error.code, error.message, error.details];
  };
  assert.deepEqual(await detailOf({ requestid: 'frontend.x' }), [
    Code.unknown,
    'unsupported request frontend.x',
    [{ type: 'errdefs.Subrequest', value: { name: 'frontend.x' } }],
  ]);
  assert.deepEqual(
    await detailOf({ 'frontend.caps': 'moby.buildkit.frontend.inputs,moby.buildkit.frontend.x+forward' }),
    [
      Code.unimplemented,
      'unsupported frontend capability moby.buildkit.frontend.x',
      [{ type: 'errdefs.FrontendCap', value: { name: 'moby.buildkit.frontend.x' } }],
    ],
  );
});

test('a context from the network is an archive or the Dockerfile itself', async () => {
  const address = 'https://example.com/ctx';
  const packed = fake(
    { [address]: { context: gzipSync('x'), Dockerfile: 'FROM scratch\nCOPY a /' } },
    { context: address },
  );
  await buildDockerfile(packed.bridge);
  const [probe, file, build] = packed.solved;
  assert.deepEqual(namesOf(probe!), ['[internal] load remote build context']);
  for (const definition of [file!, build!]) {
    const unpack = opsOf(definition)[1]?.op;
    assert.ok(unpack?.$case === 'file');
    const action = unpack.value.actions[0]?.action;
    assert.ok(action?.$case === 'copy' && action.value.attemptUnpackDockerCompatibility);
  }
  const single = fake({ [address]: { context: 'FROM scratch\nENV A=b' } }, { context: address });
  const result = await buildDockerfile(single.bridge);
  assert.match(Buffer.from(result.metadata.get('containerimage.config')!).toString(), /A=b/);
});

test('repositories as contexts, the main one and named ones', async () => {
  const trees = { 'git://example.com/r.git#v1': { Dockerfile: 'FROM x\nCOPY --from=y a b\nCOPY c d' } };
  const { bridge, solved } = fake(trees, {
    context: 'https://example.com/r.git?ref=v1',
    contextsubdir: 'sub',
    'context:x': 'git@example.com:x.git#main',
    'context:y': 'https://example.com/y.git',
  });
  await buildDockerfile(bridge);
  const [file, build] = solved;
  assert.equal(file?.def.length, 2);
  for (const name of ['r.git#v1', 'x.git#main', 'y.git'])
    assert.ok(sourceOf(build!, `git://example.com/${name}`), name);
  const wrong = { ...Object.fromEntries(bridge.options), 'context:x': 'git@example.com' };
  await assert.rejects(
    buildDockerfile(fake(trees, wrong).bridge),
    /invalid context specifier|invalid git context/,
  );
});

test('inputs stand for the context and the Dockerfile', async () => {
  const input = marshal(imageSource('docker.io/library/input:latest'));
  const trees = {
    'docker-image://docker.io/library/input:latest': { Dockerfile: 'FROM scratch\nCOPY a /b' },
  };
  const { bridge, solved } = fake(trees, {}, { context: input, dockerfile: input });
  await buildDockerfile(bridge);
  assert.deepEqual(solved[0]!.def[0], input.def[0]);
  assert.deepEqual(solved.at(-1)!.def[0], input.def[0]);
});

test('an input that is nothing is told, and so is a config of one that can not be read', async () => {
  const input = marshal(imageSource('docker.io/library/input:latest'));
  const empty = { def: [], metadata: {}, Source: undefined };
  const nothing = 'invalid nil input definition to definition op';
  const main = fake(dockerfile('FROM scratch'), {}, { context: empty });
  await assert.rejects(buildDockerfile(main.bridge), {
    message: `failed to get frontend inputs: ${nothing}`,
  });
  const config = (metadata: string) => {
    const options = { 'context:base': 'input:in', 'input-metadata:in': metadata };
    return buildDockerfile(fake(dockerfile('FROM base\nENV A=b'), options, { in: input }).bridge);
  };
  await assert.rejects(config('{'), /failed to parse input metadata \{:/);
  await assert.rejects(config('{"containerimage.config":5}'), /failed to parse input metadata/);
  const encoded = Buffer.from(JSON.stringify(CONFIG)).toString('base64');
  const { metadata } = await config(JSON.stringify({ 'containerimage.config': encoded }));
  const made = JSON.parse(Buffer.from(metadata.get('containerimage.config')!).toString());
  assert.deepEqual(made.config.Env, ['PATH=/bin', 'A=b']);
});

test('named contexts replace images and stages', async () => {
  const trees = {
    ...dockerfile('FROM base AS a\nCOPY x /\nFROM scratch\nCOPY --from=a /q /\nCOPY --from=extra /p/f /'),
    extra: { '.dockerignore': 'skip' },
  };
  const { bridge, solved, asked } = fake(trees, {
    'context:base': 'docker-image://alpine',
    'context:extra': 'local:extra',
    'local-sessionid:extra': 'other',
    'sharedkey:localdir:extra': 'kept',
  });
  await buildDockerfile(bridge);
  const build = solved.at(-1)!;
  assert.deepEqual(asked, ['[context base] load metadata for alpine']);
  assert.ok(namesOf(build).includes('[context base] alpine'), namesOf(build).join('\n'));
  assert.deepEqual(sourceOf(build, 'local://extra'), {
    'local.session': 'other',
    'local.excludepatterns': '["skip"]',
    'local.followpaths': '["p/f"]',
    'local.sharedkeyhint': 'context:extra-kept',
  });
});

test('an image of a layout that the client serves goes by the name of its context', async () => {
  const sum = `sha256:${'3'.repeat(64)}`;
  const { bridge, solved, asked } = fake(dockerfile('FROM base\nRUN x'), {
    'context:base': `oci-layout://my/store:v1@${sum}`,
  });
  await buildDockerfile(bridge);
  const name = `docker.io/library/base@${sum}`;
  assert.deepEqual(asked, [`[context base] load metadata for ${name} in my/store`]);
  assert.deepEqual(sourceOf(solved.at(-1)!, `oci-layout://${name}`), {
    'oci.session': 'session',
    'oci.store': 'my/store',
  });
  assert.ok(namesOf(solved.at(-1)!).includes('[context base] OCI load from client'));
});

test('triggers of an image take files from contexts by name', async () => {
  const trees = { ...dockerfile('FROM base\nENV a=b'), other: {} };
  const { bridge, solved } = fake(trees, {
    'context:base': 'docker-image://onbuild',
    'context:other': 'local:other',
  });
  const { metadata } = await buildDockerfile(bridge);
  assert.equal(sourceOf(solved.at(-1)!, 'local://other')?.['local.followpaths'], '["a"]');
  const config = JSON.parse(Buffer.from(metadata.get('containerimage.config')!).toString());
  assert.deepEqual(config.config.OnBuild, undefined);
  assert.equal(config.history.at(-2).created_by, 'COPY /a /b # buildkit');
});

test('contexts that make no sense are told by name', async () => {
  const sum = `sha256:${'3'.repeat(64)}`;
  const cases: [string, string][] = [
    ['nothing', 'invalid context specifier nothing for base'],
    ['ftp://x', 'unsupported context source ftp for base'],
    ['input:x', 'invalid input x for base'],
    ['oci-layout://store', 'oci-layout reference "store" has no digest'],
    ['oci-layout://store:tag', 'oci-layout reference "store:tag" has no digest'],
    [`oci-layout://@${sum}`, `could not parse oci-layout reference "@${sum}": invalid reference format`],
    ['docker-image://UP', 'invalid reference format: repository name (library/UP) must be lowercase'],
    ['docker-image://missing', 'docker.io/library/missing:latest: not found'],
    [
      'docker-image://moved',
      'context recursion limit exceeded; this may indicate a cycle in the provided source policies: ' +
        'docker-image://docker.io/library/moved:latest',
    ],
  ];
  for (const [value, message] of cases) {
    const { bridge } = fake(dockerfile('FROM base\nRUN x'), { 'context:base': value });
    await assert.rejects(buildDockerfile(bridge), { message });
  }
  const { bridge, solved } = fake(dockerfile('FROM base\nRUN x'), {
    'context:base': 'docker-image://elsewhere',
  });
  await buildDockerfile(bridge);
  assert.ok(sourceOf(solved.at(-1)!, 'https://example.com/file'));
  const other = fake(dockerfile('FROM base\nRUN x'), { 'context:base': 'docker-image://folder' });
  await buildDockerfile(other.bridge);
  assert.ok(sourceOf(other.solved.at(-1)!, 'local://extra'));
});

/** SOURCE_DATE_EPOCH that a build ends up with, and the names of its lookups. */
async function epochOf(
  file: string,
  value: string | undefined,
  options: Record<string, string> = {},
): Promise<[string | undefined, string[]]> {
  const address = 'https://example.com/plain';
  const argument: Record<string, string> =
    value === undefined ? {} : { 'build-arg:SOURCE_DATE_EPOCH': value };
  const trees = {
    ...dockerfile(file),
    [address]: { context: file, plain: '' },
    'https://example.com/dated': { context: file },
  };
  const { bridge, asked } = fake(trees, { ...argument, ...options });
  const { metadata } = await buildDockerfile(bridge);
  const config = JSON.parse(Buffer.from(metadata.get('containerimage.config')!).toString());
  const epoch = metadata.get('source.date.epoch');
  const created = config.history.at(-1)?.created;
  if (epoch) assert.equal(created, `${new Date(Number(epoch) * 1000).toISOString().slice(0, 19)}Z`);
  return [epoch && Buffer.from(epoch).toString(), asked];
}

test('SOURCE_DATE_EPOCH is a number, or the time of what it names', async () => {
  const plain = 'FROM scratch\nENV a=b\n';
  const main = '[internal] resolve main build context metadata';
  assert.deepEqual(await epochOf(plain, undefined), [undefined, []]);
  assert.deepEqual(await epochOf(plain, '77'), ['77', []]);
  assert.deepEqual(await epochOf(plain, ''), [undefined, []]);
  assert.deepEqual(await epochOf(`ARG SOURCE_DATE_EPOCH=78\n${plain}`, undefined), ['78', []]);
  assert.deepEqual(await epochOf(`ARG SOURCE_DATE_EPOCH=78\n${plain}`, ''), [undefined, []]);
  // A local folder has no time of its own.
  assert.deepEqual(await epochOf(plain, 'context'), [undefined, [main]]);
  const dated = 'https://example.com/dated';
  assert.deepEqual(await epochOf(plain, 'context', { context: dated }), ['5', [main]]);
  const old = { context: 'https://example.com/plain' };
  assert.deepEqual(await epochOf(plain, 'context', old), ['1234', [main]]);
  assert.deepEqual(await epochOf(plain, 'src', { 'context:src': dated }), [
    '5',
    ['[internal] resolve SOURCE_DATE_EPOCH named context src'],
  ]);
  assert.deepEqual(await epochOf(plain, 'src', { 'context:src': 'docker-image://scratch' }), [undefined, []]);
  const stage = `FROM scratch AS Src\nARG where=plain\nADD https://example.com/$where /x\n${plain}`;
  const lookup = '[internal] resolve SOURCE_DATE_EPOCH source stage src';
  assert.deepEqual(await epochOf(stage, 'src'), ['1234', [lookup]]);
  assert.deepEqual(await epochOf(stage, 'src', { 'build-arg:where': 'dated' }), ['5', [lookup]]);
  // The stages see the number.
  const seen = 'ARG SOURCE_DATE_EPOCH\nFROM scratch\nARG SOURCE_DATE_EPOCH\nENV a=$SOURCE_DATE_EPOCH\n';
  const { bridge } = fake(dockerfile(seen), { 'build-arg:SOURCE_DATE_EPOCH': 'src', 'context:src': dated });
  const config = (await buildDockerfile(bridge)).metadata.get('containerimage.config')!;
  assert.match(Buffer.from(config).toString(), /"a=5"/);
});

test('names for one platform win, and each platform has its own SOURCE_DATE_EPOCH', async () => {
  const { bridge, asked } = fake(dockerfile('FROM base\nENV a=b\n'), {
    platform: 'linux/amd64,linux/arm64',
    'build-arg:SOURCE_DATE_EPOCH': '7',
    'context:base': 'docker-image://any',
    'context:base::linux/arm64': 'docker-image://arm',
  });
  const { metadata } = await buildDockerfile(bridge);
  assert.deepEqual(asked.toSorted(), [
    '[context base::linux/arm64] load metadata for arm',
    '[context base] load metadata for any',
  ]);
  for (const platform of ['linux/amd64', 'linux/arm64'])
    assert.equal(Buffer.from(metadata.get(`source.date.epoch/${platform}`)!).toString(), '7');
  assert.equal(metadata.get('source.date.epoch'), undefined);
});

test('what SOURCE_DATE_EPOCH can not stand for is told', async () => {
  const url = 'https://example.com/plain';
  const cases: [stage: string, value: string, message: string][] = [
    ['FROM scratch', 'nope', 'invalid SOURCE_DATE_EPOCH: nope'],
    [
      'FROM scratch',
      'NOPE',
      'invalid context name NOPE: invalid reference format: repository name (library/NOPE) must be lowercase',
    ],
    ['FROM busybox AS s', 's', 'SOURCE_DATE_EPOCH stage must use FROM scratch'],
    ['FROM scratch AS s', 's', 'SOURCE_DATE_EPOCH stage must contain exactly one remote ADD'],
    [
      `FROM scratch AS s\nADD ${url} /\nADD ${url} /b`,
      's',
      'SOURCE_DATE_EPOCH stage must contain exactly one remote ADD',
    ],
    [
      `FROM scratch AS s\nADD ${url} ${url} /`,
      's',
      'SOURCE_DATE_EPOCH stage must contain exactly one remote ADD source',
    ],
    [
      'FROM scratch AS s\nADD file /',
      's',
      'SOURCE_DATE_EPOCH stage source must be a single HTTP(S) or Git ADD',
    ],
    [
      'FROM scratch AS s\nWorkDir /x',
      's',
      'SOURCE_DATE_EPOCH stage does not meet source-only requirements: unsupported WorkDir instruction',
    ],
  ];
  for (const [stage, value, message] of cases)
    await assert.rejects(epochOf(`${stage}\nFROM scratch\n`, value), { message });
});

test('bad options are refused by name', async () => {
  const cases: [Record<string, string>, string][] = [
    [{ 'image-resolve-mode': 'x' }, 'invalid image-resolve-mode: x'],
    [{ 'force-network-mode': 'x' }, 'invalid netmode x'],
    [{ 'multi-platform': 'x' }, 'invalid boolean value for multi-platform: x'],
    [
      { platform: 'linux/amd64,linux/arm64', 'multi-platform': '0' },
      'conflicting config: returning multiple target platforms is not allowed',
    ],
    [{ 'add-hosts': 'a=b' }, 'failed to parse additional hosts: failed to parse IP b'],
    [{ 'shm-size': 'x' }, 'failed to parse shm size: strconv.ParseInt: parsing "x": invalid syntax'],
    [{ ulimit: 'nofile' }, 'failed to parse ulimit: invalid ulimit argument: nofile'],
    [{ memory: '0' }, 'failed to parse resource limits: invalid memory value: 0: must be > 0'],
    [{ target: 'x' }, 'target stage "x" could not be found'],
  ];
  for (const [options, message] of cases) {
    await assert.rejects(buildDockerfile(fake(dockerfile('FROM scratch'), options).bridge), { message });
  }
});

test('an image that can not be looked up is named with the whole reference', async () => {
  const fail = () => assert.fail('not asked');
  const bridge = new Bridge(
    {
      prepare: fail,
      resolveSourceMeta: async () => {
        throw new BuildError('no such host', { code: Code.notFound });
      },
      warn: fail,
      frontends: new Map(),
      mountLocally: fail,
      newestFile: fail,
      openContainer: fail,
      failures: { keep: fail, describe: fail, tree: fail },
      workerPlatforms: [],
      requests: new RequestStore(),
    },
    {
      sessionId: '',
      inputs: {},
      root: { definition: undefined, frontend: '', frontendOpt: {}, frontendInputs: {}, evaluate: false },
    },
  );
  const request = {
    definition: undefined,
    frontend: '',
    frontendOpt: {},
    frontendInputs: {},
    evaluate: false,
  };
  const { resolveImage } = daemonBridge(bridge, request, new AbortController().signal);
  const options = { platform: parsePlatform('linux/amd64'), logName: '', resolveMode: 'default' } as const;
  await assert.rejects(resolveImage('docker.io/library/x:latest', options), {
    message: 'failed to resolve source metadata for docker.io/library/x:latest: no such host',
    code: Code.notFound,
  });
});

test('an image is asked for once by all platforms of a build', async () => {
  const { bridge, asked } = fake(dockerfile('FROM --platform=$BUILDPLATFORM tools\nRUN x'), {
    platform: 'linux/amd64,linux/arm64',
    'context:tools': 'docker-image://busybox',
  });
  await buildDockerfile(bridge);
  assert.deepEqual(asked, ['[context tools] load metadata for busybox']);
});

test('a stage that is a context without a config has none', async () => {
  const { bridge } = fake(dockerfile('FROM busybox AS tools\nRUN x'), { 'context:tools': 'local:extra' });
  const { metadata } = await buildDockerfile(bridge);
  const config = Buffer.from(metadata.get('containerimage.config') ?? '').toString();
  assert.equal(config, '{"architecture":"","os":"linux","rootfs":{"type":"","diff_ids":null},"config":{}}');
});

test('the other name of a Dockerfile is written without detours', async () => {
  const { bridge, solved } = fake(
    { dockerfile: { 'sub/dockerfile': 'FROM scratch' } },
    {
      filename: './sub/Dockerfile',
    },
  );
  await buildDockerfile(bridge);
  assert.equal(
    sourceOf(solved[0]!, 'local://dockerfile')?.['local.followpaths'],
    '["./sub/Dockerfile","./sub/Dockerfile.dockerignore","sub/dockerfile"]',
  );
});

test('a time that an image can not hold fails when the image is written', async () => {
  const options = { 'build-arg:SOURCE_DATE_EPOCH': '253402300800' };
  await assert.rejects(buildDockerfile(fake(dockerfile('FROM scratch\nCOPY a b'), options).bridge), {
    message:
      'failed to marshal image config: json: error calling MarshalJSON for type *time.Time: Time.MarshalJSON: year outside of range [0,9999]',
  });
  await buildDockerfile(fake(dockerfile('FROM scratch'), options).bridge);
});

test('options of the remote cache that are no list of entries', async () => {
  const entries = async (text: string) =>
    buildDockerfile(fake(dockerfile('FROM scratch'), { 'cache-imports': text }).bridge);
  await entries('null');
  await assert.rejects(entries('{}'), /cannot unmarshal object into Go value of type \[\]\*moby_buildkit_v1/);
  await assert.rejects(entries('[1]'), /cannot unmarshal number into Go value of type moby_buildkit_v1/);
});

test('bytes that are no text stay as they are in files, and are refused in commands', async () => {
  const written = (text: string) => Buffer.from(text, 'latin1');
  const build = (text: string) => fake({ dockerfile: { Dockerfile: written(text) } });
  const copied = build('FROM scratch\n# caf\xe9\nCOPY <<"END" /x\ncaf\xe9\nEND\n');
  await buildDockerfile(copied.bridge);
  const data = opsOf(copied.solved.at(-1)!).flatMap(({ op }) =>
    op?.$case === 'file' && op.value.actions[0]?.action?.$case === 'mkfile'
      ? [Buffer.from(op.value.actions[0].action.value.data)]
      : [],
  );
  assert.deepEqual(data, [written('caf\xe9\n')]);
  await buildDockerfile(build('FROM busybox\nENV A=caf\xe9\nARG \xe9=1\nRUN x\n').bridge);
  await assert.rejects(buildDockerfile(build('FROM busybox\nRUN echo caf\xe9\n').bridge), {
    message: 'failed to marshal LLB definition: string field contains invalid UTF-8',
  });
  await assert.rejects(
    buildDockerfile(build('FROM busybox AS caf\xe9\n').bridge),
    /build stage: "caf\\xe9", name/,
  );
});

test('an address whose last part is no text is refused when the graph is made', async () => {
  const { bridge } = fake(dockerfile('FROM scratch\nADD https://h.example/%ff /'));
  await assert.rejects(buildDockerfile(bridge), {
    message: 'failed to marshal LLB definition: string field contains invalid UTF-8',
  });
});

test('of several bad options the first in the order of BuildKit is told', async () => {
  const options = { memory: 'much', 'shm-size': 'x', ulimit: 'nofile', 'force-network-mode': 'x' };
  const told = async (...left: string[]) => {
    const kept = Object.fromEntries(Object.entries(options).filter(([key]) => !left.includes(key)));
    const error = await buildDockerfile(fake(dockerfile('FROM scratch'), kept).bridge).catch((e: Error) => e);
    return error instanceof Error ? error.message.split(':', 1)[0] : 'nothing';
  };
  assert.equal(await told(), 'failed to parse shm size');
  assert.equal(await told('shm-size'), 'failed to parse ulimit');
  assert.equal(await told('shm-size', 'ulimit'), 'failed to parse resource limits');
  assert.equal(await told('shm-size', 'ulimit', 'memory'), 'invalid netmode x');
});

test('a layout is asked for once by all stages that stand on it', async () => {
  const layout = `oci-layout://app@sha256:${'1'.repeat(64)}`;
  const { bridge, asked } = fake(dockerfile('FROM tools\nRUN x\nFROM tools AS b\nCOPY --from=0 a b'), {
    'context:tools': layout,
  });
  await buildDockerfile(bridge);
  assert.equal(asked.length, 1);
});
