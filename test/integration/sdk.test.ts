// buildkit-ts/client against the daemon under test: ours, or the one that BUILDKITD names.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { createReadStream, createWriteStream, existsSync, readFileSync } from 'node:fs';
import { after, before, test } from 'node:test';
import { type Client, Code, connect, type SolveStatus, upload } from '../../src/client/index.ts';
import { file, mkfile } from '../../src/llb/file.ts';
import { marshal } from '../../src/llb/marshal.ts';
import { Definition } from '../../src/llb/ops.ts';
import { local } from '../../src/llb/source.ts';
import { scratch } from '../../src/llb/state.ts';
import { dockerfile, failure } from './sdk.ts';
import { BUILDCTL, Daemon, freePort, OUR_DAEMON, Registry, TempDir } from './harness.ts';

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

async function output(text: string, options: object = {}): Promise<string> {
  const out = dir.join(`out-${Math.random().toString(36).slice(2)}`);
  await client.solve({ ...dockerfile(text), ...options, exports: [{ type: 'local', dir: out }] });
  return readFileSync(`${out}/out`, 'utf8');
}

test('a build from memory: progress as it happens, files in a folder', async () => {
  const out = dir.join('memory');
  const build = client.solve({
    frontend: 'dockerfile.v0',
    locals: {
      context: {
        files: {
          a: 'of memory\n',
          b: { content: new Uint8Array([1, 2]), mode: 0o755 },
          'ignored/x': 'x',
          '.dockerignore': 'ignored\n',
        },
      },
      dockerfile: `${dir.write({
        'df/Dockerfile':
          'FROM busybox AS b\nCOPY . /c\nRUN echo said && ls /c > /p\nFROM scratch\nCOPY --from=b /p /d/\nCOPY a b /d/\n',
      })}/df`,
    },
    exports: [{ type: 'local', dir: out }],
  });
  const seen: SolveStatus[] = [];
  for await (const status of build.progress) seen.push(status);
  const result = await build;
  assert.equal(result.ref, build.ref);
  assert.equal(readFileSync(`${out}/d/a`, 'utf8'), 'of memory\n');
  assert.deepEqual([...readFileSync(`${out}/d/b`)], [1, 2]);
  assert.equal(readFileSync(`${out}/d/p`, 'utf8'), 'a\nb\n');
  const logs = seen.flatMap(({ logs }) => logs).map(({ data }) => Buffer.from(data).toString());
  assert.match(logs.join(''), /^said$/m);
  const done = seen.flatMap(({ vertexes }) => vertexes).filter(({ completed }) => completed !== undefined);
  assert.ok(done.some(({ name }) => /RUN echo said/.test(name)));
  assert.ok('containerimage.config' in result.metadata);
});

test('a definition is built; a local that it does not need may be missing, one that it needs may not', async () => {
  const bytes = Definition.encode(
    marshal(file(scratch(), [mkfile('/out', 0o644, Buffer.from('llb'))])),
  ).finish();
  const out = dir.join('definition');
  await client.solve({ definition: bytes, exports: [{ type: 'local', dir: out }] });
  assert.equal(readFileSync(`${out}/out`, 'utf8'), 'llb');
  const reads = Definition.encode(marshal(local('sources'))).finish();
  await client.solve({ definition: reads, locals: { sources: { files: { a: 'a' } }, other: '/none' } });
  const error = await failure(client.solve({ definition: reads, locals: { other: { files: {} } } }));
  assert.match(error.message, /local directory sources not enabled/);
});

test('secrets: values, bytes, files, variables and functions', async () => {
  process.env.SDK_TEST_SECRET = 'of env';
  dir.write({ secret: 'of file' });
  const text = [
    'FROM busybox AS b',
    ...['value', 'bytes', 'file', 'env', 'function'].map(
      (id) => `RUN --mount=type=secret,id=${id},required=true cat /run/secrets/${id} >> /out && echo >> /out`,
    ),
    'FROM scratch\nCOPY --from=b /out /',
  ].join('\n');
  const secrets = {
    value: 'of text',
    bytes: Buffer.from('of bytes'),
    file: { file: dir.join('secret') },
    env: { env: 'SDK_TEST_SECRET' },
    function: async () => 'of function',
  };
  assert.equal(await output(text, { secrets }), 'of text\nof bytes\nof file\nof env\nof function\n');
  const error = await failure(client.solve({ ...dockerfile(text), secrets: { file: { file: '/none' } } }));
  assert.match(error.message, /failed to stat \/none: .*no such file/);
});

test('ssh: a key is an agent in the step', async () => {
  execFileSync('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-C', 'mine', '-f', dir.join('key')]);
  const text = [
    'FROM busybox AS b',
    'RUN --mount=type=ssh,required=true test -S "$SSH_AUTH_SOCK" && echo agent > /out',
    'FROM scratch\nCOPY --from=b /out /',
  ].join('\n');
  const key = readFileSync(dir.join('key'));
  assert.equal(await output(text, { ssh: { default: { keys: [key] } } }), 'agent\n');
  assert.equal(await output(text, { ssh: { default: { keys: [dir.join('key')] } } }), 'agent\n');
  const error = await failure(client.solve({ ...dockerfile(text), ssh: { default: { keys: ['/none'] } } }));
  assert.match(error.message, /no such file/);
});

test('archives go to paths, streams of Node and of the web, and sinks; images to registries', async () => {
  const built = dockerfile('FROM scratch\nCOPY a /a\n', { a: 'x' });
  const chunks: Uint8Array[] = [];
  const web = new WritableStream<Uint8Array>({ write: (chunk) => void chunks.push(chunk.slice()) });
  let closed = false;
  const sunk: Uint8Array[] = [];
  const sink = async () => ({
    write: async (chunk: Uint8Array) => void sunk.push(chunk.slice()),
    close: async () => void (closed = true),
    abort: async () => {},
  });
  const name = `${registry.host}/sdk:1`;
  const { digest } = await client.solve({
    ...built,
    exports: [
      { type: 'image', name, push: true },
      { type: 'oci', name, dest: dir.join('oci.tar') },
      { type: 'tar', dest: createWriteStream(dir.join('plain.tar')) },
      { type: 'docker', name, dest: web },
      { type: 'tar', dest: sink },
      { type: 'oci', dir: dir.join('layout') },
    ],
  });
  const files = (tar: Uint8Array): string => execFileSync('tar', ['-t'], { input: tar }).toString();
  assert.match(files(readFileSync(dir.join('oci.tar'))), /^index\.json$/m);
  assert.match(files(readFileSync(dir.join('plain.tar'))), /^a$/m);
  assert.match(files(Buffer.concat(chunks)), /^manifest\.json$/m);
  assert.match(files(Buffer.concat(sunk)), /^a$/m);
  assert.ok(closed);
  assert.ok(existsSync(dir.join('layout/index.json')));
  assert.match(digest ?? '', /^sha256:/);
  assert.equal((await registry.manifest('sdk', '1')).schemaVersion, 2);
});

test('a target that cannot be written fails the build with its name', async () => {
  const exports = [{ type: 'tar', dest: '/none/here.tar' }] as const;
  const error = await failure(
    client.solve({ ...dockerfile('FROM scratch\nCOPY Dockerfile /\n', { Dockerfile: '' }), exports }),
  );
  assert.match(error.message, /failed to write \/none\/here\.tar: .*no such file/);
});

test('an upload is the context of a build', async () => {
  const tar = execFileSync('tar', [
    '-c',
    '-C',
    dir.write({ 'up/Dockerfile': 'FROM scratch\nCOPY f /out\n', 'up/f': 'up' }),
    '-C',
    'up',
    '.',
  ]);
  dir.write({ 'up.tar': tar });
  const context = upload(createReadStream(dir.join('up.tar')));
  const out = dir.join('uploaded');
  await client.solve({
    frontend: 'dockerfile.v0',
    frontendOptions: { context: context.url },
    uploads: [context],
    exports: [{ type: 'local', dir: out }],
  });
  assert.equal(readFileSync(`${out}/out`, 'utf8'), 'up');
});

test('caches are exported and imported', async () => {
  const text =
    'FROM busybox AS b\nRUN cat /proc/sys/kernel/random/uuid > /out\nFROM scratch\nCOPY --from=b /out /';
  const ref = `${registry.host}/cache:1`;
  const first = await output(text, { cacheExports: [{ type: 'registry', attrs: { ref, mode: 'max' } }] });
  for await (const _ of client.prune({ all: true }));
  assert.equal(await output(text, { cacheImports: [{ type: 'registry', attrs: { ref } }] }), first);
  const notices: string[] = [];
  const cacheImports = [{ type: 'local', attrs: { src: dir.join('no-cache') } }];
  await output(text, { cacheImports, onNotice: (notice: string) => notices.push(notice) });
  assert.match(notices.join(), /local cache import .* skipped/);
});

test('a failed step: its digest is that of the progress, and where it stands in the Dockerfile', async () => {
  const build = client.solve(dockerfile('FROM busybox\nRUN echo before && exit 7\n'));
  const failed = new Set<string>();
  for await (const { vertexes } of build.progress)
    for (const { digest, error } of vertexes) if (error !== '') failed.add(digest);
  const error = await failure(build);
  assert.match(error.message, /exit code: 7/);
  assert.ok(error.vertex && failed.has(error.vertex));
  const [source] = error.sources;
  assert.equal(source?.filename, 'Dockerfile');
  assert.match(source?.text ?? '', /exit 7/);
  assert.equal(source?.ranges[0]?.start.line, 2);
});

test('builds are cancelled: by hand, by a signal, by disposal, before they begin', async () => {
  const sleepy = dockerfile('FROM busybox\nRUN sleep 100\n');
  const started = async (build: { progress: AsyncIterable<SolveStatus> }): Promise<void> => {
    for await (const { vertexes } of build.progress)
      if (vertexes.some(({ name, started }) => /sleep 100/.test(name) && started !== undefined)) return;
  };
  const byHand = client.solve(sleepy);
  await started(byHand);
  byHand.cancel();
  assert.equal((await failure(byHand)).code, Code.canceled);
  const abort = new AbortController();
  const bySignal = client.solve({ ...sleepy, signal: abort.signal });
  await started(bySignal);
  abort.abort();
  assert.equal((await failure(bySignal)).code, Code.canceled);
  const byTime = client.solve({ ...sleepy, signal: AbortSignal.timeout(300) });
  assert.equal((await failure(byTime)).code, Code.deadlineExceeded);
  let disposed: PromiseLike<unknown>;
  {
    await using build = client.solve(sleepy);
    disposed = build;
    await started(build);
  }
  assert.equal((await failure(disposed)).code, Code.canceled);
  assert.equal((await failure(client.solve({ ...sleepy, signal: AbortSignal.abort() }))).code, Code.canceled);
});

test('workers, version, disk usage, prune', async () => {
  assert.equal((await client.workers()).length, 1);
  assert.ok((await client.workers())[0]!.platforms.some(({ os }) => os === 'linux'));
  assert.notEqual((await client.info()).buildkitVersion.version, '');
  await output('FROM busybox AS b\nRUN echo used > /out\nFROM scratch\nCOPY --from=b /out /');
  const records = await client.diskUsage();
  assert.ok(records.some(({ description }) => /echo used/.test(description)));
  const { disk } = await client.diskUsageDetails();
  assert.equal(disk !== undefined, OUR_DAEMON);
  const filters = [`id==${records.find(({ description }) => /echo used/.test(description))!.id}`];
  assert.equal((await client.diskUsage({ filters })).length, 1);
  const removed = await Array.fromAsync(client.prune({ all: true }));
  assert.ok(removed.length > 0);
  const gone = await failure(client.diskUsage({ signal: AbortSignal.abort() }));
  assert.equal(gone.code, Code.canceled);
});

test('history: records, their log and blobs, pins, deletion', async () => {
  const build = client.solve(dockerfile('FROM busybox\nRUN echo remember-me\n'));
  await build;
  const { ref } = build;
  const [event] = await Array.fromAsync(client.history({ ref }));
  assert.equal(event?.type, 'complete');
  assert.equal(event.record.frontend, '');
  assert.ok(event.record.completedAt && event.record.createdAt);
  assert.ok(event.record.steps.total > 0);
  const failed = client.solve(dockerfile('FROM busybox\nRUN exit 3\n'));
  await failure(failed);
  const [bad] = await Array.fromAsync(client.history({ ref: failed.ref }));
  assert.match(bad?.record.error?.message ?? '', /exit code: 3/);
  const logs = (await Array.fromAsync(client.progress(ref))).flatMap(({ logs }) => logs);
  assert.match(logs.map(({ data }) => Buffer.from(data).toString()).join(''), /remember-me/);
  await client.updateHistory(ref, { pinned: true });
  assert.equal((await Array.fromAsync(client.history({ ref })))[0]?.record.pinned, true);
  const { log } = event.record;
  assert.ok(log);
  const blob = Buffer.concat(await Array.fromAsync(client.readBlob(log.digest)));
  assert.equal(blob.length, log.size);
  await client.updateHistory(ref, { pinned: false });
  await client.updateHistory(ref, { delete: true });
  assert.ok((await Array.fromAsync(client.history())).every(({ record }) => record.ref !== ref));
});

test('credentials as plain objects are asked for by host', async () => {
  // A registry that wants a password, in front of the one that does not.
  const { createServer, request } = await import('node:http');
  const [address, port] = registry.host.split(':');
  const proxy = createServer((incoming, answer) => {
    if (incoming.headers.authorization !== `Basic ${Buffer.from('me:secret').toString('base64')}`) {
      answer.writeHead(401, { 'www-authenticate': 'Basic realm="test"' }).end();
      return;
    }
    const { method, url: path, headers } = incoming;
    const onward = request({ host: address, port, method, path, headers }, (from) => {
      answer.writeHead(from.statusCode ?? 500, from.headers);
      from.pipe(answer);
    });
    incoming.pipe(onward);
  });
  await new Promise<void>((done) => proxy.listen(0, '127.0.0.1', done));
  const host = `localhost:${(proxy.address() as { port: number }).port}`;
  try {
    const build = (registryAuth: object) =>
      client.solve({
        ...dockerfile(`FROM ${host}/library/busybox\nRUN echo ${Math.random()}\n`),
        registryAuth: registryAuth as never,
      });
    assert.match(
      (await failure(build({ other: { username: 'me', password: 'secret' } }))).message,
      /401|authori/i,
    );
    await build({ [host]: { username: 'me', password: 'secret' } });
    await build((asked: string) => (asked === host ? { username: 'me', password: 'secret' } : undefined));
    const auth = Buffer.from('me:secret').toString('base64');
    dir.write({ 'docker/config.json': JSON.stringify({ auths: { [host]: { auth } } }) });
    await build({ dockerConfig: dir.join('docker') });
  } finally {
    proxy.closeAllConnections();
    proxy.close();
  }
});

test('a policy denies a source; entitlements are asked for', async () => {
  const deny = {
    action: 'DENY',
    selector: { identifier: 'docker-image://docker.io/library/busybox:*' },
  } as const;
  const denied = await failure(
    client.solve({ ...dockerfile('FROM busybox\nRUN true\n'), sourcePolicy: { rules: [deny] } }),
  );
  assert.match(denied.message, /denied by policy/);
  const text = 'FROM busybox AS b\nRUN --network=host echo host > /out\nFROM scratch\nCOPY --from=b /out /';
  assert.match((await failure(client.solve(dockerfile(text)))).message, /network\.host is not allowed/);
  assert.equal(await output(text, { entitlements: ['network.host'] }), 'host\n');
});

test('addresses: over tcp, over a stream of your own, and none that answers', async () => {
  const { connect: dialSocket, createServer } = await import('node:net');
  const path = daemon.address.slice('unix://'.length);
  const bridge = createServer((socket) => {
    socket.pipe(dialSocket({ path })).pipe(socket);
    socket.on('error', () => {});
  });
  await new Promise<void>((done) => bridge.listen(0, '127.0.0.1', done));
  const { port } = bridge.address() as { port: number };
  {
    await using other = await connect(`tcp://127.0.0.1:${port}`);
    assert.equal((await other.workers()).length, 1);
    await using own = await connect({ address: 'mine://x', dial: async () => dialSocket({ path }) });
    assert.equal((await own.workers()).length, 1);
  }
  bridge.close();
  const error = await failure(connect('unix:///none/there.sock'));
  assert.equal(error.code, Code.unavailable);
  assert.match(error.message, /\/none\/there\.sock.*no such file or directory/);
  assert.match((await failure(connect('bogus://x'))).message, /unsupported address scheme bogus/);
});

test('closing a client ends its builds and calls', async () => {
  const other = await connect(daemon.address);
  const build = other.solve(dockerfile('FROM busybox\nRUN sleep 101\n'));
  await other.close();
  assert.equal((await failure(build)).code, Code.canceled);
  assert.equal((await failure(other.info())).code, Code.canceled);
});

test('bad options are errors of the build', async () => {
  const context = { files: { '../x': 'y' } };
  const error = await failure(client.solve({ frontend: 'dockerfile.v0', locals: { context } }));
  assert.match(error.message, /invalid path "\.\.\/x"/);
  assert.match((await failure(client.solve({}))).message, /invalid empty definition/);
  assert.match(
    (await failure(client.solve({ ...dockerfile('FROM scratch'), exports: [{ type: 'oci' }] }))).message,
    /either dest or dir/,
  );
});

test('a failed step is looked into before the build ends', async () => {
  let seen = '';
  const error = await failure(
    client.solve({
      ...dockerfile('FROM busybox\nENV WHERE=here\nRUN echo left > /behind && exit 4\n'),
      onFailedStep: async (step) => {
        assert.match(step.error.message, /exit code: 4/);
        assert.equal(step.program, '/bin/sh');
        const stdout = (data: Uint8Array) => (seen += Buffer.from(data).toString());
        assert.equal(await step.run({ stdout }, ['/bin/sh', '-c', 'cat /behind; echo $WHERE']), 0);
      },
    }),
  );
  assert.equal(seen, 'left\nhere\n');
  assert.match(error.message, /exit code: 4/);
});

test('a definition stands in for an image of a Dockerfile', async () => {
  const base = Definition.encode(
    marshal(file(scratch(), [mkfile('/out', 0o644, Buffer.from('base'))])),
  ).finish();
  const out = dir.join('inputs');
  await client.solve({
    ...dockerfile('FROM base\n'),
    frontendOptions: { 'context:base': 'input:base' },
    frontendInputs: { base },
    exports: [{ type: 'local', dir: out }],
  });
  assert.equal(readFileSync(`${out}/out`, 'utf8'), 'base');
});

test('over TLS, with certificates as texts; through a container', async () => {
  const made = (name: string, ...more: string[]): void => {
    const key = [
      '-newkey',
      'ec',
      '-pkeyopt',
      'ec_paramgen_curve:prime256v1',
      '-nodes',
      '-keyout',
      dir.join(`${name}.key`),
    ];
    const subject = ['-subj', `/CN=${name}`, '-out', dir.join(`${name}.crt`), '-days', '2'];
    execFileSync('openssl', ['req', '-x509', ...key, ...subject, ...more], { stdio: 'ignore' });
  };
  made('ca');
  const signed = ['-CA', dir.join('ca.crt'), '-CAkey', dir.join('ca.key')];
  made('server', ...signed, '-addext', 'subjectAltName=IP:127.0.0.1');
  made('user', ...signed);
  const port = await freePort();
  const read = (name: string): string => readFileSync(dir.join(name), 'utf8');
  const files = [
    '--tlscert',
    dir.join('server.crt'),
    '--tlskey',
    dir.join('server.key'),
    '--tlscacert',
    dir.join('ca.crt'),
  ];
  await using secured = await Daemon.start({ args: ['--addr', `tcp://127.0.0.1:${port}`, ...files] });
  const address = `tcp://127.0.0.1:${port}`;
  const tls = { ca: read('ca.crt'), cert: read('user.crt'), key: read('user.key') };
  {
    await using other = await connect({ address, tls });
    assert.equal((await other.workers()).length, 1);
    await using byPath = await connect({ address, tls: { ...tls, key: dir.join('user.key') } });
    assert.equal((await byPath.workers()).length, 1);
  }
  await failure(connect({ address, tls: { ca: tls.ca } }).then((stranger) => stranger.info()));
  // A `docker` that runs the command here in place of in a container.
  const docker = dir.write({
    'bin/docker': `#!/bin/sh\nshift 3\nshift\nexec ${BUILDCTL} --addr ${secured.address} "$@"\n`,
  });
  execFileSync('chmod', ['+x', `${docker}/bin/docker`]);
  const { PATH } = process.env;
  process.env.PATH = `${dir.join('bin')}:${PATH}`;
  try {
    await using inside = await connect('docker-container://builder');
    assert.equal((await inside.workers()).length, 1);
  } finally {
    process.env.PATH = PATH;
  }
});
