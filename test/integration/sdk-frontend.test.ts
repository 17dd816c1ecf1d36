// Frontends of buildkit-ts/client, and their containers, against the daemon under test: ours, or the one that BUILDKITD names.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { after, before, test } from 'node:test';
import { BuildError, type Client, Code, connect } from '../../src/client/index.ts';
import { file, mkfile } from '../../src/llb/file.ts';
import { marshal } from '../../src/llb/marshal.ts';
import { Definition } from '../../src/llb/ops.ts';
import { scratch } from '../../src/llb/state.ts';
import { dockerfile, failure } from './sdk.ts';
import { Daemon, Registry, TempDir } from './harness.ts';

let registry: Registry;
let daemon: Daemon;
let client: Client;
const dir = new TempDir();

before(async () => {
  registry = await Registry.start();
  await registry.pushBusybox();
  daemon = await Daemon.start({
    config: registry.config,
    topLevel: 'insecure-entitlements = ["network.host"]\n',
  });
  client = await connect(daemon.address);
});

after(async () => {
  await client?.close();
  await daemon?.[Symbol.asyncDispose]();
  await registry?.[Symbol.asyncDispose]();
  dir[Symbol.dispose]();
});

test('a frontend of this process: options, files, solving, metadata, warnings', async () => {
  const out = dir.join('in-process');
  const { metadata } = await client.build(
    async (gateway) => {
      assert.equal(gateway.options['build-arg:X'], 'y');
      assert.ok(gateway.capabilities.has('readfile') && gateway.llbCapabilities.has('source.image'));
      assert.equal(gateway.workers.length, 1);
      const image = await gateway.resolveImage('docker.io/library/busybox:latest');
      assert.match(image.digest, /^sha256:/);
      assert.equal(JSON.parse(Buffer.from(image.config).toString()).os, 'linux');
      const inner = await gateway.solve({ frontend: 'dockerfile.v0', frontendOptions: gateway.options });
      const { ref } = inner;
      assert.ok(ref?.definition);
      assert.equal(Buffer.from(await ref.readFile('out')).toString(), 'hello world');
      assert.equal(Buffer.from(await ref.readFile('out', { offset: 6, length: 3 })).toString(), 'wor');
      assert.deepEqual(
        (await ref.readDir('/')).map(({ path, type }) => `${path} ${type}`),
        ['link symlink', 'out file', 'sub directory'],
      );
      assert.deepEqual(
        (await ref.readDir('/', { include: 'o*' })).map(({ path }) => path),
        ['out'],
      );
      const stat = await ref.stat('sub');
      assert.deepEqual([stat.type, stat.mode], ['directory', 0o755]);
      await ref.evaluate();
      const digest = Object.keys(Definition.decode(ref.definition).metadata)[0]!;
      await gateway.warn(digest, 'mind this', { detail: ['more'], url: 'https://example.com' });
      const mine = marshal(file(scratch(), [mkfile('/mine', 0o600, Buffer.from('made'))]));
      const made = await gateway.solve({ definition: Definition.encode(mine).finish(), evaluate: true });
      return { ref: made.ref, metadata: { 'my.key': 'my value' } };
    },
    {
      ...dockerfile(
        'FROM busybox AS b\nRUN mkdir -p /o/sub && ln -s out /o/link && printf "hello world" > /o/out\nFROM scratch\nCOPY --from=b /o /',
      ),
      frontendOptions: { 'build-arg:X': 'y' },
      exports: [{ type: 'local', dir: out }],
    },
  );
  assert.equal(Buffer.from(metadata['my.key']!).toString(), 'my value');
  assert.equal(readFileSync(`${out}/mine`, 'utf8'), 'made');
});

test('what a frontend of this process throws is the error of the build, and its cause', async () => {
  const mine = new BuildError('nothing of that kind', { code: Code.notFound });
  const error = await failure(
    client.build(async () => {
      throw mine;
    }),
  );
  assert.match(error.message, /nothing of that kind/);
  assert.equal(error.cause, mine);
  const foreign = await failure(client.build(async (gateway) => gateway.solve({ frontend: 'no.such' })));
  assert.match(foreign.message, /no\.such/);
  const refused = await failure(client.build(async () => ({ ref: { id: 'x' } as never })));
  assert.match(refused.message, /none of its build/);
});

test('calls of a frontend are cancelled one by one', async () => {
  await client.build(async (gateway) => {
    const abort = new AbortController();
    const slow = gateway.solve({
      frontend: 'dockerfile.v0',
      frontendOptions: gateway.options,
      evaluate: true,
      signal: abort.signal,
    });
    setTimeout(() => abort.abort(), 300);
    assert.equal((await failure(slow)).code, Code.canceled);
    const made = marshal(file(scratch(), [mkfile('/out', 0o644, Buffer.from('after'))]));
    const { ref } = await gateway.solve({ definition: Definition.encode(made).finish() });
    assert.equal((await failure(ref!.readFile('out', { signal: AbortSignal.abort() }))).code, Code.canceled);
    assert.equal(Buffer.from(await ref!.readFile('out')).toString(), 'after');
    return { ref };
  }, dockerfile('FROM busybox\nRUN sleep 102\n'));
});

test('the frontend is told when its build is cancelled', async () => {
  const told = Promise.withResolvers<void>();
  const begun = Promise.withResolvers<void>();
  const build = client.build(async (gateway) => {
    gateway.signal.addEventListener('abort', () => told.resolve());
    begun.resolve();
    await told.promise;
    return undefined;
  });
  await begun.promise;
  build.cancel();
  await told.promise;
  assert.equal((await failure(build)).code, Code.canceled);
});

test('containers: processes with input, output, terminals, signals and mounts; their files', async () => {
  const text = async (work: Promise<Uint8Array>): Promise<string> => Buffer.from(await work).toString();
  await client.build(
    async (gateway) => {
      const { ref } = await gateway.solve({ frontend: 'dockerfile.v0', frontendOptions: gateway.options });
      await using container = await gateway.newContainer({
        hostname: 'mine',
        mounts: [
          { dest: '/', ref },
          { dest: '/scratch' },
          { dest: '/t', type: 'tmpfs' },
          { dest: '/cache', type: 'cache', id: 'sdk', sharing: 'locked' },
          { dest: '/run/password', type: 'secret', id: 'password' },
        ],
      });
      const begun = Promise.withResolvers<void>();
      const stop = new AbortController();
      const first = container.run(['/bin/sleep', '100'], { onStarted: begun.resolve, signal: stop.signal });
      await begun.promise;
      const output: Buffer[] = [];
      const errors: Buffer[] = [];
      const script =
        'read -r line; echo "$line $(hostname) $X $(pwd) $(cat /run/password) $S"; echo bad >&2; touch /scratch/f /cache/c';
      const code = await container.run(
        ['/bin/sh', '-c', script.replace('$(hostname)', '$(cat /proc/sys/kernel/hostname)')],
        {
          stdin: (async function* () {
            yield Buffer.from('hel');
            yield Buffer.from('lo\n');
          })(),
          stdout: (data) => output.push(Buffer.from(data)),
          stderr: (data) => errors.push(Buffer.from(data)),
          env: ['X=y', 'PATH=/bin'],
          cwd: '/tmp',
          secretEnv: { S: { id: 'password' } },
        },
      );
      assert.equal(code, 0);
      assert.equal(Buffer.concat(output).toString(), 'hello mine y /tmp 1234 1234\n');
      assert.equal(Buffer.concat(errors).toString(), 'bad\n');
      assert.equal((await container.stat('f', { mount: 1 })).size, 0);
      assert.equal(await text(container.readFile('/etc/mark', { length: 3 })), 'mar');
      assert.ok((await container.readDir('/etc')).some(({ path }) => path === 'mark'));

      const shown: Buffer[] = [];
      const onTerminal = 'test -t 0 && test -t 1 && echo terminal';
      const terminal = await container.run(['/bin/sh', '-c', onTerminal], {
        stdin: (async function* () {})(),
        stdout: (data) => shown.push(Buffer.from(data)),
        sizes: (async function* () {
          yield { rows: 10, columns: 40 };
        })(),
      });
      assert.equal(terminal, 0);
      assert.match(Buffer.concat(shown).toString(), /terminal\r\n/);

      const started = Promise.withResolvers<void>();
      const trapped = await container.run(
        ['/bin/sh', '-c', 'trap "exit 9" TERM; echo on; while true; do sleep 0.1; done'],
        {
          stdout: () => started.resolve(),
          signals: (async function* () {
            await started.promise;
            yield 'SIGTERM';
          })(),
        },
      );
      assert.equal(trapped, 9);

      stop.abort();
      assert.notEqual(await first.catch(() => 'ended'), 0);
      await using other = await gateway.newContainer({ mounts: [{ dest: '/', ref }] });
      assert.notEqual(await other.run(['/no/such/program']).catch(() => 'refused'), 0);
      await failure(gateway.newContainer({ mounts: [{ dest: '/elsewhere' }] }));
      return { ref };
    },
    {
      ...dockerfile('FROM busybox\nRUN echo mark > /etc/mark\n'),
      secrets: { password: '1234' },
    },
  );
});

test('statements of a frontend are kept with the image', async () => {
  const name = `${registry.host}/attested:1`;
  await client.build(
    async (gateway) => {
      const say = async (path: string, text: string) => {
        const made = marshal(file(scratch(), [mkfile(path, 0o644, Buffer.from(text))]));
        return (await gateway.solve({ definition: Definition.encode(made).finish() })).ref;
      };
      const id = 'linux/amd64';
      const platform = { architecture: 'amd64', os: 'linux' };
      return {
        refs: { [id]: await say('/f', 'image') },
        metadata: {
          'refs.platforms': JSON.stringify({ Platforms: [{ ID: id, Platform: platform }] }),
          [`containerimage.config/${id}`]: JSON.stringify({
            ...platform,
            rootfs: { type: 'layers' },
            config: {},
          }),
        },
        attestations: {
          [id]: [
            {
              kind: 'in-toto',
              ref: await say('/said.json', '{"said":true}'),
              path: '/said.json',
              predicateType: 'https://example.com/said',
              subjects: [{ kind: 'self', name: '', digests: [] }],
            },
          ],
        },
      };
    },
    { exports: [{ type: 'image', name, push: true }] },
  );
  const index = (await registry.manifest('attested', '1')) as {
    manifests: { digest: string; annotations?: Record<string, string> }[];
  };
  const said = index.manifests.find(({ annotations }) => annotations?.['vnd.docker.reference.type']);
  assert.ok(said, JSON.stringify(index));
  const { layers } = (await registry.manifest('attested', said.digest)) as {
    layers: { annotations: Record<string, string> }[];
  };
  assert.equal(layers[0]?.annotations['in-toto.io/predicate-type'], 'https://example.com/said');
});
