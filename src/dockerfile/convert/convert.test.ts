import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { BuildError, Code } from '../../base/errors.ts';
import { marshal } from '../../llb/marshal.ts';
import { type Definition, Op } from '../../llb/ops.ts';
import { local } from '../../llb/source.ts';
import { formatPlatformFull, hostPlatform, normalizePlatform, parsePlatform } from '../../oci/platform.ts';
import { normalizeReference } from '../../oci/reference.ts';
import { isLabs } from '../directives.ts';
import { LocatedError } from '../errors.ts';
import { convertDockerfile } from './convert.ts';
import { encodeImage, parseImage } from './image.ts';
import type { ConvertOptions, ConvertResult } from './options.ts';
import { downloadName } from './remote-source.ts';

/** Heads, vertex names, configs and errors as BuildKit v0.32 gives them for the same files. */
interface Golden {
  readonly images: Readonly<Record<string, { readonly digest: string; readonly config: string }>>;
  readonly cases: readonly GoldenCase[];
}

interface GoldenCase {
  readonly file: string;
  readonly flags?: readonly string[];
  readonly error?: string;
  readonly lines?: readonly (readonly number[])[];
  readonly head?: string;
  readonly names?: string;
  readonly image?: string;
}

const golden = JSON.parse(
  readFileSync(new URL('../../../test/golden/dockerfile.json', import.meta.url), 'utf8'),
) as Golden;

const CAPS = new Set(
  (
    'mergeop exec.meta.setsdefaultpath exec.mount.bind.readwrite-nooutput exec.mount.tmpfs.size ' +
    'exec.meta.ulimit exec.meta.cgroup.parent exec.meta.linux.resources'
  ).split(' '),
);

interface Asked {
  readonly refs: string[];
  readonly paths: (readonly string[] | undefined)[];
}

function optionsFor(file: string, change: Partial<ConvertOptions> = {}, asked?: Asked): ConvertOptions {
  return {
    buildArgs: new Map(),
    labels: new Map(),
    target: '',
    buildPlatforms: [hostPlatform()],
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
    caps: CAPS,
    sourceMap: { filename: 'Dockerfile', language: 'Dockerfile', data: Buffer.from(file) },
    resolveImage: async (ref, { platform, logName }) => {
      asked?.refs.push(logName);
      const name = normalizeReference(ref);
      const image = golden.images[`${name}|${formatPlatformFull(platform)}`] ?? golden.images[name];
      if (!image) throw new Error(`${ref}: not found`);
      return { ref, digest: image.digest, config: Buffer.from(image.config) };
    },
    namedContext: () => undefined,
    mainContext: async (paths) => {
      asked?.paths.push(paths);
      const followPaths = paths ? { followPaths: paths } : {};
      return local('context', {
        sharedKeyHint: 'context',
        customName: '[internal] load build context',
        ...followPaths,
      });
    },
    ...change,
  };
}

function flagged(flags: readonly string[] = []): Partial<ConvertOptions> {
  const buildArgs = new Map<string, string>();
  const labels = new Map<string, string>();
  let change: Partial<ConvertOptions> = { buildArgs, labels };
  for (let i = 0; i < flags.length; i += 2) {
    const value = flags[i + 1] ?? '';
    const [key = '', ...rest] = value.split('=');
    if (flags[i] === '--build-arg') buildArgs.set(key, rest.join('='));
    else if (flags[i] === '--label') labels.set(key, rest.join('='));
    else if (flags[i] === '--target') change = { ...change, target: value };
    else change = { ...change, targetPlatform: normalizePlatform(parsePlatform(value)) };
  }
  return change;
}

function encode(result: ConvertResult): Definition {
  return marshal(result.state, { platform: result.platform, caps: CAPS, localUniqueId: 'unique' });
}

const sha256 = (data: string | Uint8Array): string => createHash('sha256').update(data).digest('hex');
const namesOf = (definition: Definition): string[] =>
  definition.def.map(
    (bytes) => definition.metadata[`sha256:${sha256(bytes)}`]?.description['llb.customname'] ?? '',
  );

test('the golden files give the graphs, names, configs and errors of BuildKit', async () => {
  assert.ok(golden.cases.length > 150);
  for (const [index, expected] of golden.cases.entries()) {
    const label = `case ${index} ${expected.flags?.join(' ') ?? ''}\n${expected.file}`;
    const outcome = await convertDockerfile(
      expected.file,
      optionsFor(expected.file, flagged(expected.flags)),
    ).catch((error: unknown) => BuildError.from(error));
    if (outcome instanceof BuildError) {
      assert.equal(outcome.message, expected.error, label);
      const locations = outcome instanceof LocatedError ? outcome.locations : [];
      const lines = locations.map((ranges) => ranges.map((range) => range.start.line));
      assert.deepEqual(lines, expected.lines, label);
      continue;
    }
    assert.equal(expected.error, undefined, label);
    const definition = encode(outcome);
    const last = definition.def.at(-1);
    assert.equal(last ? `sha256:${sha256(last)}` : '', expected.head, label);
    assert.equal(sha256(namesOf(definition).join('\n')).slice(0, 16), expected.names, label);
    const config = JSON.stringify(JSON.parse(Buffer.from(encodeImage(outcome.image)).toString()));
    assert.equal(sha256(config).slice(0, 16), expected.image, `${label}\n${config}`);
  }
});

async function convert(file: string, change: Partial<ConvertOptions> = {}, asked?: Asked) {
  return convertDockerfile(file, optionsFor(file, change, asked));
}

test('only stages that the target needs are looked up, and only their paths are fetched', async () => {
  const asked: Asked = { refs: [], paths: [] };
  const file = [
    'FROM nowhere AS unused',
    'COPY secret /',
    'FROM busybox AS used',
    'COPY b/../c a /',
    'ADD http://example.com/x /',
    'FROM alpine',
    'COPY --from=used /x /y',
    'RUN --mount=target=/ctx,source=sub true',
  ].join('\n');
  await convert(file, {}, asked);
  assert.deepEqual(asked.refs.toSorted(), [
    '[internal] load metadata for docker.io/library/alpine:latest',
    '[internal] load metadata for docker.io/library/busybox:latest',
  ]);
  assert.deepEqual(asked.paths, [['a', 'c', 'sub']]);
});

test('a context that is used whole is fetched whole', async () => {
  const asked: Asked = { refs: [], paths: [] };
  await convert('FROM scratch\nCOPY a /\nCOPY . /', {}, asked);
  assert.deepEqual(asked.paths, [undefined]);
});

test('without the merge capability a linked copy is a plain one', async () => {
  const file = 'FROM busybox\nCOPY --link a /b';
  const linked = encode(await convert(file));
  const plain = encode(await convert(file, { caps: new Set() }));
  assert.deepEqual(namesOf(plain).slice(-2), ['[2/2] COPY --link a /b', '']);
  assert.deepEqual(namesOf(linked).slice(-3), ['[2/2] COPY --link a /b', '[2/2] LINK COPY --link a /b', '']);
});

test('no-cache marks the steps of the stages it names', async () => {
  const file = 'FROM busybox AS a\nRUN one\nFROM a AS b\nRUN two\nCOPY x /';
  const definition = encode(await convert(file, { isNoCache: (name) => name === 'b' }));
  const ignored = Object.values(definition.metadata).filter((metadata) => metadata.ignoreCache);
  assert.deepEqual(ignored.map((metadata) => metadata.description['llb.customname']).toSorted(), [
    '[b 1/2] RUN two',
    '[b 2/2] COPY x /',
  ]);
});

test('a build of several platforms says so in the names', async () => {
  const file =
    'FROM --platform=linux/amd64 alpine AS tool\nARG TARGETARCH\nRUN x\nFROM alpine\nCOPY --from=tool a b';
  const target = parsePlatform('linux/arm64');
  const amd64 = parsePlatform('linux/amd64');
  const change = { targetPlatform: target, buildPlatforms: [amd64], multiPlatform: true };
  const asked: Asked = { refs: [], paths: [] };
  const names = namesOf(encode(await convert(file, change, asked)));
  assert.ok(names.includes('[linux/amd64->arm64 tool 2/2] RUN x'), names.join('\n'));
  assert.ok(names.includes('[linux/arm64 stage-1 2/2] COPY --from=tool a b'), names.join('\n'));
  assert.ok(asked.refs.includes('[linux/arm64 internal] load metadata for docker.io/library/alpine:latest'));
});

test('secrets in variables are masked in names', async () => {
  const file = 'FROM busybox\nRUN --mount=type=secret,id=t,env=TOKEN curl $TOKEN $OTHER';
  const names = namesOf(encode(await convert(file)));
  assert.equal(names.at(-2), '[stage-0 2/2] RUN --mount=type=secret,id=t,env=TOKEN curl **** $OTHER');
});

/** Digests of the definition that BuildKit makes of the same file. */
const GIT_ADDS = `FROM scratch
ADD https://example.com/a.git?tag=v1&subdir=x /a
ADD --keep-git-dir=true --checksum=abcd git@example.com:b/c.git#main:x/y /b/
ADD --chown=1:2 --exclude=*.md git://example.com/d?submodules=false&fetch-by-commit&commit=5bf5d2f9d8e1bd1b0ea1f7a1a9f5ac0e0a5e5fca /c
ADD https://example.com/a.git?keep-git-dir&commit=abcdef12 https://example.com/e.git?subdir=a/../b /m/
`;
const GIT_ADDS_HEAD = 'sha256:aa776406f968389cccefd366027a5aba62ee9fef63be140eefce944e4a58b7ba';

test('ADD of repositories makes the steps that BuildKit makes', async () => {
  const { def } = encode(await convert(GIT_ADDS));
  assert.equal(def.length, 10);
  assert.equal(`sha256:${sha256(def.at(-1)!)}`, GIT_ADDS_HEAD);
});

test('addresses of repositories that make no sense', async () => {
  const add = (line: string) => convert(`FROM scratch\n${line}`);
  await assert.rejects(add('ADD https://example.com/a.git?x=1 /'), /unexpected query "x"/);
  await assert.rejects(add('ADD --keep-git-dir=false https://example.com/a.git?keep-git-dir /'), {
    message: 'inconsistent keep-git-dir configuration',
  });
  await assert.rejects(add('ADD --checksum=ab https://example.com/a.git?checksum=cd /'), {
    message: 'checksum mismatch "ab" != "cd"',
  });
  await assert.rejects(add('COPY git@example.com:a.git /'), {
    message: "source can't be a git ref for COPY",
  });
  await assert.rejects(add('ADD --checksum=ab a /'), { message: 'checksum requires HTTP(S) or Git sources' });
});

test('an empty file and one without stages are told apart', async () => {
  await assert.rejects(convert(''), { message: 'the Dockerfile cannot be empty' });
  await assert.rejects(convert('ARG X=1'), { message: 'dockerfile contains no stages to build' });
});

test('a file can not blow up what it says', async () => {
  const ports = `EXPOSE ${'1-65535 '.repeat(100)}`;
  await assert.rejects(convert(`FROM scratch\n${ports}`), { message: 'EXPOSE names more than 200000 ports' });
  const doubling = `FROM scratch\nENV A=${'x'.repeat(1000)}\n${'ENV A=$A$A\n'.repeat(40)}`;
  await assert.rejects(convert(doubling), /longer than/);
});

test('a very long chain of stages converts', async () => {
  const count = 8000;
  const chain = Array.from({ length: count }, (_, i) => `FROM scratch AS s${i + 1}\nCOPY --from=s${i} a b`);
  const file = `FROM scratch AS s0\nCOPY x /\n${chain.join('\n')}`;
  const definition = encode(await convert(file));
  assert.equal(definition.def.length, count + 3);
});

test('of several bases that fail at once the last one is told', async () => {
  await assert.rejects(convert('FROM Bad AS a\nFROM Worse\nCOPY --from=a x /'), (error: LocatedError) => {
    assert.match(error.message, /^failed to parse stage name "Worse": /);
    assert.equal(error.code, Code.unknown);
    assert.equal(error.locations[0]?.[0]?.start.line, 2);
    return true;
  });
});

test('devices are asked for only when the daemon knows them', async () => {
  const file = 'FROM busybox\nRUN --device=vendor.example/thing=all,required true';
  const devices = async (caps: ReadonlySet<string>) => {
    const { def } = encode(await convert(file, { caps, labs: true }));
    const { op } = Op.decode(def.at(-2)!);
    return op?.$case === 'exec' ? op.value.cdiDevices : undefined;
  };
  assert.deepEqual(await devices(new Set()), []);
  assert.deepEqual(await devices(new Set(['exec.meta.cdi'])), [
    { name: 'vendor.example/thing=all', optional: false },
  ]);
});

test('devices belong to the labs channel', async () => {
  const file = 'FROM busybox\nRUN --device=vendor.example/thing true';
  await assert.rejects(convert(file, { caps: new Set(['exec.meta.cdi']) }), (error: LocatedError) => {
    assert.equal(
      error.message,
      'device feature is only supported in Dockerfile frontend 1.14.0-labs or later',
    );
    assert.equal(error.locations[0]?.[0]?.start.line, 2);
    assert.match(error.hint ?? '', /docker\/dockerfile:1-labs/);
    return true;
  });
  for (const image of ['labs', '1-labs', '1.17.0-rc1-labs', 'master-labs', `1-labs@sha256:${'a'.repeat(64)}`])
    assert.ok(isLabs(`docker/dockerfile:${image}`), image);
  for (const image of [
    'docker/dockerfile',
    'docker/dockerfile:1',
    'x/labs',
    'h:5000/labs',
    'x:labs-1',
    'x-labs',
    '',
  ])
    assert.ok(!isLabs(image), image);
});

test('a download is named by the path of its address, if the address makes sense', () => {
  const cases: readonly (readonly [address: string, name: string])[] = [
    ['https://h/a/b.tgz?x=/y#/z', 'b.tgz'],
    ['https://h:80/a%2Fb%20c/', 'b c'],
    ['https://u:p@[::1]:80/é', 'é'],
    ['https://h', '__unnamed__'],
    ['https://h/a/..', '..'],
    ['https://h:port/a', '__unnamed__'],
    ['https://[::1/a', '__unnamed__'],
    ['https://h/%zz', '__unnamed__'],
    ['https://h h/a', '__unnamed__'],
    ['https://h/%c3%a9', 'é'],
    ['https://h/%ff/a', 'a'],
    ['https://h/a%ff', 'a\udcff'], // no text: the step is refused
  ];
  for (const [address, name] of cases) assert.equal(downloadName(address), name, address);
});

test('a number that is no index of a stage may name an image', async () => {
  await assert.rejects(convert('FROM scratch\nCOPY --from=9223372036854775808 a b'), {
    message: '9223372036854775808: docker.io/library/9223372036854775808:latest: not found',
  });
});

test('an image that only a trigger needs goes by its full name in errors', async () => {
  const file = 'FROM gone AS src\nFROM busybox AS base\nONBUILD COPY --from=src / /\nFROM base\n';
  await assert.rejects(convert(file), {
    message: 'docker.io/library/gone:latest: docker.io/library/gone:latest: not found',
  });
  await assert.rejects(convert('FROM gone\n'), { message: 'gone: docker.io/library/gone:latest: not found' });
});

test('checksums that are none are told apart', async () => {
  const cases = [
    ['sha256:zz', 'invalid checksum digest length'],
    [`sha256:${'z'.repeat(64)}`, 'invalid checksum digest format'],
    ['md5:d41d8cd98f00b204e9800998ecf8427e', 'unsupported digest algorithm'],
    ['md5:-:', 'invalid checksum digest format'],
    ['sha256:', 'invalid checksum digest format'],
    ['zz', 'invalid checksum digest format'],
  ] as const;
  for (const [checksum, message] of cases)
    await assert.rejects(convert(`FROM busybox\nADD --checksum=${checksum} http://example.com/a b`), {
      message,
    });
});

test('variables that double do not fill the memory', async () => {
  const doubled = 'ENV A=$A$A\n'.repeat(22);
  const start = `FROM scratch\nENV A=xx\n${doubled}`;
  const uses = (line: string) =>
    Array.from({ length: 300 }, (_, i) => line.replace('%', String(i))).join('\n');
  for (const file of [start + uses('ENV B%=$A'), start + uses('LABEL B%=$A'), start + uses('COPY $A /b%')])
    await assert.rejects(convert(file), /the results of all expansions are longer than \d+ characters$/);
  const graph = await convert(`${start}ENV B=$A\n${uses('RUN ["x%"]')}`);
  assert.throws(() => encode(graph), /the definition is larger than \d+ bytes$/);
});

test('members of an image config count in any case, the last one of several', () => {
  const read = (config: string) => parseImage(Buffer.from(`{"Config":${config}}`)).config;
  assert.deepEqual(read('{"env":["a=b"],"ENV":["c=d"]}').env, ['c=d']);
  assert.deepEqual(read('{"ENV":["c=d"],"Env":["a=b"],"eNV":null}').env, ['a=b']);
  assert.deepEqual([...read('{"ExposedPorts":{"1":{},"2":null}}').exposedPorts], ['1', '2']);
  assert.throws(() => read('{"ExposedPorts":{"1":2}}'), /config.ExposedPorts is not of type object/i);
  assert.throws(() => parseImage(Buffer.from('\ufeff{}')));
});
