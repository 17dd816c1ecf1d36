// The example that turns a Dockerfile into a build graph, read back by the client's own dump.
import assert from 'node:assert/strict';
import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { after, test } from 'node:test';
import { fileURLToPath } from 'node:url';

const ROOT = join(dirname(fileURLToPath(import.meta.url)), '..');
const PROGRAM = join(ROOT, 'examples/dockerfile2llb/main.ts');
const skip = existsSync(join(ROOT, 'dist/npm/dockerfile.mjs')) ? false : 'dist/ is not built';
const DOCKERFILE = `FROM busybox AS a
ARG V=1
RUN echo $V > /v
RUN --mount=type=cache,target=/c date
FROM busybox
COPY --from=a --link /v /v
COPY x y /z/
WORKDIR /z
CMD ["ls"]
`;
/** Of the last op, as BuildKit's own converter gives it for the same file, images and ids. */
const HEAD = 'sha256:d4409314ed3d730fab0dfbe0786eae024ebf2ec42a0d91afb3aff553957d51d8';
const CONFIG = {
  architecture: 'amd64',
  os: 'linux',
  config: { Env: ['PATH=/usr/bin:/bin'], Cmd: ['/bin/sh'] },
  rootfs: { type: 'layers', diff_ids: [`sha256:${'2'.repeat(64)}`] },
};

const dir = mkdtempSync(join(tmpdir(), 'dockerfile2llb-'));
after(() => rmSync(dir, { recursive: true, force: true }));

function heads(definition: Buffer): { digest: string; count: number } {
  const dump = execFileSync(process.execPath, [join(ROOT, 'dist/buildctl.cjs'), 'debug', 'dump-llb'], {
    input: definition,
    encoding: 'utf8',
  });
  const ops = dump.trimEnd().split('\n');
  return { digest: (JSON.parse(ops.at(-1) ?? '{}') as { Digest: string }).Digest, count: ops.length };
}

test('image configs from a file: the graph of BuildKit, the same bytes each time', { skip }, () => {
  const images = join(dir, 'images.json');
  const image = { digest: `sha256:${'1'.repeat(64)}`, config: CONFIG };
  writeFileSync(images, JSON.stringify({ 'docker.io/library/busybox:latest': image }));
  const convert = (): Buffer =>
    execFileSync(
      process.execPath,
      [
        PROGRAM,
        '--images',
        images,
        '--build-arg',
        'V=3',
        '--unique-id',
        'unique',
        '--platform',
        'linux/amd64',
      ].concat(['--image-config', join(dir, 'config.json'), '--base-image-config', join(dir, 'base.json')]),
      { input: DOCKERFILE },
    );
  const definition = convert();
  assert.deepEqual(heads(definition), { digest: HEAD, count: 9 });
  assert.ok(definition.equals(convert()));
  const config = JSON.parse(readFileSync(join(dir, 'config.json'), 'utf8')) as { config: unknown };
  assert.deepEqual(config.config, {
    Env: ['PATH=/usr/bin:/bin'],
    Cmd: ['ls'],
    WorkingDir: '/z',
    ArgsEscaped: true,
  });
  assert.deepEqual((JSON.parse(readFileSync(join(dir, 'base.json'), 'utf8')) as { os: string }).os, 'linux');
});

test('image configs from a registry that gives tokens to everybody', { skip }, async () => {
  const hash = (text: string): string => `sha256:${createHash('sha256').update(text).digest('hex')}`;
  const config = JSON.stringify(CONFIG);
  const manifest = JSON.stringify({ config: { digest: hash(config) } });
  const index = JSON.stringify({
    manifests: [
      { digest: `sha256:${'3'.repeat(64)}`, platform: { os: 'linux', architecture: 's390x' } },
      { digest: hash(manifest), platform: { os: 'linux', architecture: 'amd64' } },
    ],
  });
  const files = new Map([
    ['/v2/a/b/manifests/1', index],
    [`/v2/a/b/manifests/${hash(manifest)}`, manifest],
    [`/v2/a/b/blobs/${hash(config)}`, config],
    ['/token?service=s&scope=repository%3Aa%2Fb%3Apull', '{"token":"t"}'],
  ]);
  const server = createServer((request, response) => {
    const file = files.get(request.url ?? '');
    const known = request.url?.startsWith('/token') || request.headers.authorization === 'Bearer t';
    const challenge = `Bearer realm="http://${request.headers.host}/token",service="s",scope="repository:a/b:pull"`;
    response.writeHead(known ? (file === undefined ? 404 : 200) : 401, { 'www-authenticate': challenge });
    response.end(known ? file : undefined);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  after(() => server.close());
  const { port } = server.address() as AddressInfo;
  const ask = async (name: string): Promise<{ code: number | null; out: Buffer; err: string }> => {
    const child = spawn(process.execPath, [PROGRAM, '--platform', 'linux/amd64']);
    child.stdin.end(`FROM 127.0.0.1:${port}/a/b:${name}\nRUN x\n`);
    const [out, err, code] = await Promise.all([
      child.stdout.toArray() as Promise<Buffer[]>,
      child.stderr.toArray() as Promise<Buffer[]>,
      new Promise<number | null>((resolve) => child.once('exit', resolve)),
    ]);
    return { code, out: Buffer.concat(out), err: Buffer.concat(err).toString() };
  };
  const found = await ask('1');
  assert.equal(found.err, '');
  assert.equal(heads(found.out).count, 3);
  assert.ok(found.out.includes(`docker-image://127.0.0.1:${port}/a/b:1@${hash(index)}`));
  const missing = await ask('2');
  assert.equal(missing.code, 1);
  assert.match(missing.err, /^dockerfile2llb: line 1: .*a\/b:2: .*manifests\/2: 404 Not Found$/m);
});

test('what is wrong is said with its line, and nothing is written', { skip }, () => {
  const run = (args: string[], input: string) =>
    spawnSync(process.execPath, [PROGRAM, ...args], { input, encoding: 'utf8' });
  const bad = run([], 'FROM scratch\nCOPPY a b\n');
  assert.deepEqual([bad.status, bad.stdout], [1, '']);
  assert.match(bad.stderr, /^dockerfile2llb: line 2: .*unknown instruction: COPPY \(did you mean COPY\?\)$/m);
  const usage = run(['--what'], '');
  assert.equal(usage.status, 2);
  assert.match(usage.stderr, /usage: dockerfile2llb/);
});
