// dockerUi of buildkit-ts/frontend: a frontend that is used as a Dockerfile is, against the daemon under test.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync, utimesSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { after, before, test } from 'node:test';
import { BuildError, type Client, Code, connect } from '../../src/client/index.ts';
import { type DockerUi, dockerUi, type Frontend, type FrontendResult } from '../../src/frontend/index.ts';
import { copy, mkfile, scratch } from '../../src/llb/index.ts';
import { Daemon, TempDir } from './harness.ts';

let daemon: Daemon;
let client: Client;
const dir = new TempDir();

before(async () => {
  daemon = await Daemon.start({});
  client = await connect(daemon.address);
});

after(async () => {
  await client?.close();
  await daemon?.[Symbol.asyncDispose]();
  dir[Symbol.dispose]();
});

type Options = Omit<NonNullable<Parameters<Client['build']>[1]>, 'signal'>;

/** Runs `work` for a build with `options`; gives what it gives. */
async function inBuild<T>(options: Options, work: (ui: DockerUi) => Promise<T>): Promise<T> {
  let given: { value: T } | undefined;
  await client.build(async (gateway) => {
    given = { value: await work(await dockerUi(gateway)) };
    return {};
  }, options);
  return given!.value;
}

async function failure(work: PromiseLike<unknown>): Promise<BuildError> {
  const error = await work.then(
    () => assert.fail('nothing has failed'),
    (reason: unknown) => reason,
  );
  assert.ok(error instanceof BuildError, String(error));
  return error;
}

/** The whole main context, and the file that describes the build. */
const copied: Frontend = async (gateway) => {
  const ui = await dockerUi(gateway);
  const file = await ui.readEntrypoint({ language: 'Mine' });
  const context = await ui.mainContext();
  const base = await ui.namedContext('base');
  return ui.build(async ({ platform, id, index }) => {
    const tree = scratch()
      .file(copy(context, '/', '/'))
      .file(copy(base?.state ?? scratch().file(mkfile('/none', '')), '/', '/base/'))
      .file(mkfile('/made', `${file.text}${id} ${index} ${ui.config.buildArgs.X}`));
    const { ref } = await gateway.solve({ definition: await tree.marshal() });
    const { architecture = 'amd64', os = 'linux' } = platform ?? {};
    return { ref, config: { architecture, os, config: { Labels: ui.config.labels } }, epoch: 7 };
  });
};

test('file, context without what is ignored, named context and options give a tree for each platform', async () => {
  const out = dir.join('both');
  const { metadata } = await client.build(copied, {
    frontendOptions: {
      filename: 'sub/build.mine',
      platform: 'linux/amd64,linux/arm64',
      'build-arg:X': 'of x',
      'label:l': 'm',
      'context:base': 'local:other',
    },
    locals: {
      context: { files: { a: 'a', b: 'b', '.dockerignore': 'b\n.dockerignore\n' } },
      dockerfile: { files: { 'sub/build.mine': 'build it\n' } },
      other: { files: { c: 'c', d: 'd', '.dockerignore': 'd' } },
    },
    exports: [{ type: 'local', dir: out }],
  });
  assert.deepEqual(readdirSync(out).sort(), ['linux_amd64', 'linux_arm64']);
  const files = readdirSync(`${out}/linux_arm64`, { recursive: true, encoding: 'utf8' }).sort();
  assert.deepEqual(files, ['a', 'base', 'base/.dockerignore', 'base/c', 'made']);
  assert.equal(readFileSync(`${out}/linux_arm64/made`, 'utf8'), 'build it\nlinux/arm64 1 of x');
  assert.equal(typeof metadata, 'object');
});

test('metadata of a result: by platform when several are asked for, plain for one', async () => {
  const resultOf = async (options: Record<string, string>): Promise<FrontendResult> => {
    let result: FrontendResult | undefined;
    await client.build(
      async (gateway) => {
        const ui = await dockerUi(gateway);
        result = await ui.build(async () => ({
          ref: undefined,
          config: '{"os":"windows","os.version":"10.0.1"}',
          baseConfig: {},
          epoch: 7n,
        }));
        return {};
      },
      { frontendOptions: options },
    );
    return result!;
  };
  const text = ({ metadata = {} }: FrontendResult): Record<string, string> =>
    Object.fromEntries(Object.entries(metadata).map(([key, value]) => [key, Buffer.from(value).toString()]));
  const single = await resultOf({ platform: 'linux/arm64' });
  assert.deepEqual(text(single), {
    'containerimage.config': '{"os":"windows","os.version":"10.0.1"}',
    'containerimage.base.config': '{}',
    'source.date.epoch': '7',
    'refs.platforms': '{"Platforms":[{"ID":"linux/arm64","Platform":{"architecture":"arm64","os":"linux"}}]}',
  });
  assert.equal(single.refs, undefined);
  const several = await resultOf({ platform: 'windows/amd64', 'multi-platform': 'true' });
  assert.deepEqual(Object.keys(several.refs ?? {}), ['windows/amd64']);
  const { 'refs.platforms': platforms, ...rest } = text(several);
  assert.deepEqual(Object.keys(rest).sort(), [
    'containerimage.base.config/windows/amd64',
    'containerimage.config/windows/amd64',
    'source.date.epoch/windows/amd64',
  ]);
  assert.equal(JSON.parse(platforms!).Platforms[0].Platform['os.version'], '10.0.1');
});

test('options are understood; those that make no sense are refused by name', async () => {
  const options = {
    target: 't',
    'no-cache': 'One,two',
    'add-hosts': 'h=::1',
    ulimit: 'nofile=1:2',
    memory: '1000',
    'shm-size': '5',
    'cgroup-parent': '/p',
    'force-network-mode': 'none',
    'image-resolve-mode': 'pull',
    'cache-from': 'r/a',
    'build-arg:BUILDKIT_CACHE_MOUNT_NS': 'ns',
    'build-arg:BUILDKIT_SANDBOX_HOSTNAME': 'host',
  };
  const [config, cached] = await inBuild({ frontendOptions: options }, async (ui) => [
    ui.config,
    ['one', 'TWO', 'three'].map((name) => ui.isNoCache(name)),
  ]);
  assert.deepEqual(cached, [true, true, false]);
  const { buildPlatform, buildArgs, ...rest } = config as DockerUi['config'];
  assert.equal(buildPlatform.os, 'linux');
  assert.equal(Object.keys(buildArgs).length, 2);
  assert.deepEqual(rest, {
    labels: {},
    target: 't',
    targetPlatforms: [],
    multiPlatform: false,
    network: 'none',
    hostname: 'host',
    extraHosts: [{ host: 'h', ip: '::1' }],
    shmSize: 5n,
    ulimits: [{ name: 'nofile', soft: 1n, hard: 2n }],
    cgroupParent: '/p',
    resources: { memory: 1000n },
    imageResolveMode: 'pull',
    cacheNamespace: 'ns',
    cacheImports: [{ type: 'registry', attrs: { ref: 'r/a' } }],
    sbom: undefined,
  });
  let sbom: DockerUi['config']['sbom'];
  const scanned = client.build(
    async (gateway) => {
      sbom = (await dockerUi(gateway)).config.sbom;
      throw new BuildError('without the scan');
    },
    { frontendOptions: { 'attest:sbom': 'generator=scan,x=y' } },
  );
  assert.match((await failure(scanned)).message, /without the scan/);
  assert.deepEqual(sbom, { generator: 'docker.io/library/scan:latest', parameters: { x: 'y' } });
  const bad = (frontendOptions: Record<string, string>) =>
    failure(inBuild({ frontendOptions }, async () => {}));
  assert.match((await bad({ 'shm-size': 'x' })).message, /failed to parse shm size/);
  assert.match((await bad({ 'override-copy-image': 'x' })).message, /was removed in BuildKit 0\.11/);
});

test('inputs stand for the file and the context; the named file may be in another folder', async () => {
  const definition = (name: string) =>
    scratch()
      .file(mkfile(`/${name}`, 'input'))
      .marshal();
  const read = async (ui: DockerUi) => [(await ui.readEntrypoint()).text, await ui.ignorePatterns()];
  const frontendInputs = { dockerfile: await definition('Dockerfile'), context: await definition('x') };
  assert.deepEqual(await inBuild({ frontendInputs }, read), ['input', []]);
  const own = {
    frontendOptions: { dockerfilekey: 'mine' },
    locals: { mine: { files: { dockerfile: 'lower' } }, context: { files: { '.dockerignore': '/x\n' } } },
  };
  assert.deepEqual(await inBuild(own, read), ['lower', ['x']]);
  const none = await failure(inBuild({ locals: { dockerfile: { files: {} } } }, read));
  assert.match(none.message, /failed to read dockerfile: .*Dockerfile: no such file or directory/);
});

test('questions: only those that are answered are listed, the others are refused', async () => {
  const answers = async (requestid: string): Promise<Record<string, string>> => {
    const locals = { dockerfile: { files: { Dockerfile: 'one\ntwo\n' } } };
    const { metadata } = (await inBuild({ frontendOptions: { requestid }, locals }, async (ui) =>
      ui.answer(
        {
          targets: () => [{ name: 'all', isDefault: true, description: 'everything' }],
          lint: () => ({ warnings: [{ rule: 'R', message: 'm', location: [at(2)] }] }),
          graph: () => scratch().file(mkfile('/f', 'x')).marshal(),
          other: (name) => (name === 'mine' ? { metadata: { told: 'yes' } } : undefined),
        },
        await ui.readEntrypoint(),
      ),
    ))!;
    return Object.fromEntries(
      Object.entries(metadata ?? {}).map(([key, value]) => [key, Buffer.from(value).toString()]),
    );
  };
  const described = await answers('frontend.subrequests.describe');
  assert.deepEqual(
    JSON.parse(described['result.json']!).map(({ name }: { name: string }) => name),
    ['frontend.targets', 'frontend.subrequests.describe'],
  );
  const { 'result.json': json, 'result.txt': text, version } = await answers('frontend.targets');
  assert.deepEqual(JSON.parse(json!), {
    targets: [{ name: 'all', default: true, description: 'everything' }],
    sources: [Buffer.from('one\ntwo\n').toString('base64')],
  });
  assert.match(text!, /all \(default\) +everything/);
  assert.equal(version, '1.0.0');
  const lint = await answers('frontend.lint');
  assert.equal(lint['result.statuscode'], '1');
  assert.match(lint['result.txt']!, /WARNING: R\nm\nDockerfile:2\n/);
  assert.equal(Object.keys(JSON.parse((await answers('frontend.convertllb'))['result.json']!).def).length, 2);
  assert.deepEqual(await answers('mine'), { told: 'yes' });
  const refused = await failure(answers('frontend.outline'));
  assert.match(refused.message, /unsupported request frontend\.outline/);
  assert.ok(refused.details.some((detail) => 'type' in detail && detail.type === 'errdefs.Subrequest'));
  assert.equal(await inBuild({}, (ui) => ui.answer({})), undefined);
});

const at = (line: number) => ({ start: { line, character: 0 }, end: { line, character: 0 } });

test('warnings and failing steps show lines of the file', async () => {
  const build = client.build(
    async (gateway) => {
      const ui = await dockerUi(gateway);
      const file = await ui.readEntrypoint({ language: 'Mine' });
      await file.warn('mind', { ranges: [at(2)], url: 'u' });
      const tree = scratch().file(copy(await ui.mainContext(), '/none', '/'), {
        locations: [file.sourceMap.at(2)],
      });
      return gateway.solve({ definition: await tree.marshal(), evaluate: true });
    },
    { locals: { context: { files: {} }, dockerfile: { files: { Dockerfile: 'a\nb\n' } } } },
  );
  const warnings = [];
  for await (const status of build.progress) warnings.push(...status.warnings);
  const error = await failure(build);
  assert.equal(error.sources[0]?.filename, 'Dockerfile');
  assert.equal(error.sources[0]?.text, 'a\nb\n');
  assert.equal(error.sources[0]?.ranges[0]?.start.line, 2);
  assert.equal(warnings.length, 1);
});

test('a context from the network has a time: what its server says, else that of its newest file', async () => {
  dir.write({ 'tar/Dockerfile': 'packed', 'tar/other': '' });
  utimesSync(dir.join('tar/Dockerfile'), 1_000, 1_000);
  utimesSync(dir.join('tar/other'), 3_000, 3_000);
  const tar = execFileSync('tar', ['-cz', '-C', dir.join('tar'), 'Dockerfile', 'other']);
  const server = createServer((request, response) => {
    if (request.url === '/dated') response.setHeader('last-modified', new Date(9_000_000).toUTCString());
    response.end(request.url === '/file' ? 'plain' : tar);
  }).listen(0, '127.0.0.1');
  await new Promise((resolve) => server.once('listening', resolve));
  try {
    const { port } = server.address() as AddressInfo;
    const look = (path: string) =>
      inBuild({ frontendOptions: { context: `http://127.0.0.1:${port}${path}` } }, async (ui) => [
        (await ui.readEntrypoint()).text,
        await ui.sourceTime(),
      ]);
    assert.deepEqual(await look('/dated'), ['packed', 9_000n]);
    assert.deepEqual(await look('/'), ['packed', 3_000n]);
    assert.deepEqual(await look('/file'), ['plain', undefined]);
  } finally {
    server.close();
  }
  const local = { locals: { context: { files: {} } } };
  assert.equal(await inBuild(local, (ui) => ui.sourceTime()), undefined);
});

test('when a platform fails the others are told', async () => {
  const error = await failure(
    inBuild({ frontendOptions: { platform: 'linux/amd64,linux/arm64' } }, (ui) =>
      ui.build(async ({ index, signal }) => {
        if (index === 0) throw new BuildError('not this one', { code: Code.notFound });
        await new Promise((resolve) => signal.addEventListener('abort', resolve));
        throw signal.reason;
      }),
    ),
  );
  assert.match(error.message, /not this one/);
  assert.equal(error.code, Code.notFound);
});
