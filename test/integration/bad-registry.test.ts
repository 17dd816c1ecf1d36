// Registries that fail, lie or send dangerous layers.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { after, before, test } from 'node:test';
import { startFaulty } from '../../src/testing/registry.ts';
import { busyboxLayer, Daemon, digest, Registry, TempDir } from './harness.ts';
import { type DaemonState, eventually, filesBelow, stateOf } from './state.ts';

let registry: Registry;
let daemon: Daemon;
const dir = new TempDir();
type Faulty = Awaited<ReturnType<typeof startFaulty>>;
const faulty = new Map<string, Faulty>();

const JSON_MANIFEST = { 'content-type': 'application/vnd.oci.image.manifest.v1+json' };

interface Case {
  readonly fault: Parameters<typeof startFaulty>[1];
  readonly error: RegExp;
}

/** What goes wrong, by name, and what the client says. */
const CASES: Readonly<Record<string, Case>> = {
  unauthorized: {
    fault: () => ({ status: 401, headers: { 'www-authenticate': 'Basic realm="closed"' } }),
    error: /401 Unauthorized|authorization failed/,
  },
  'no such image': { fault: () => ({ status: 404 }), error: /not found/ },
  'no such blob': { fault: (r) => (isLayer(r.url) ? { status: 404 } : undefined), error: /not found/ },
  'too many': { fault: () => ({ status: 429, headers: { 'retry-after': '1' } }), error: /429 Too Many/ },
  broken: { fault: () => ({ status: 500, body: 'out of order' }), error: /500 Internal/ },
  'broken blobs': { fault: (r) => (isLayer(r.url) ? { status: 503 } : undefined), error: /503 Service/ },
  // Always at the same place: going on from there does not help.
  'hangs up mid-blob': {
    fault: (r) => (isLayer(r.url) ? (r.headers.range ? { hangUp: true } : { cutAfter: 100_000 }) : undefined),
    error: /EOF|failed to do request|cut short|hang up|aborted|closed/i,
  },
  'hangs up': { fault: () => ({ hangUp: true }), error: /failed to do request/ },
  'other bytes': {
    fault: (r) => (isLayer(r.url) ? { status: 200, body: 'x'.repeat(blobs.get(r.url) ?? 0) } : undefined),
    error: /digest/,
  },
  'too few bytes': {
    fault: (r) => (isLayer(r.url) ? { status: 200, body: 'x' } : undefined),
    error: /size|short|digest|EOF/,
  },
  'another manifest': {
    fault: (r) =>
      r.url.includes('/manifests/') && r.method === 'GET'
        ? { status: 200, headers: JSON_MANIFEST, body: '{}' }
        : undefined,
    error: /digest|size|mismatch|ended after 2 of/,
  },
  'no JSON': {
    fault: (r) =>
      r.url.includes('/manifests/') ? { status: 200, headers: JSON_MANIFEST, body: '<html>' } : undefined,
    error: /JSON|parse|invalid|digest/i,
  },
};

/** Sizes of the layers, by the path that they are asked for with. */
const blobs = new Map<string, number>();

function isLayer(url: string): boolean {
  return blobs.has(url);
}

function repository(name: string): string {
  return `faulty/${name.toLowerCase().replaceAll(' ', '-')}`;
}

before(async () => {
  registry = await Registry.start();
  await registry.pushBusybox();
  let config = registry.config;
  for (const [name, { fault }] of Object.entries(CASES)) {
    // Equal images would be one to the daemon, wherever they come from.
    const layer = joined(busyboxLayer(), tarOf(one('case', name), ['case']));
    await registry.pushImage(repository(name), 'latest', [layer]);
    blobs.set(`/v2/${repository(name)}/blobs/${digest(layer)}`, layer.length);
    const server = await startFaulty(registry.host, fault);
    faulty.set(name, server);
    config += `[registry."${server.host}"]\nhttp = true\n`;
  }
  daemon = await Daemon.start({ config });
});

after(async () => {
  await daemon?.[Symbol.asyncDispose]();
  for (const server of faulty.values()) await server[Symbol.asyncDispose]();
  await registry?.[Symbol.asyncDispose]();
  dir[Symbol.dispose]();
});

async function assertBuilds(): Promise<void> {
  const context = dir.write({ 'good/Dockerfile': 'FROM busybox\nRUN true\n' });
  await daemon.build(`${context}/good`);
}

test('a registry that fails: a clear error each, and nothing left behind', async () => {
  const fail = async (name: string): Promise<void> => {
    const host = faulty.get(name)?.host;
    const context = repository(name);
    dir.write({ [`${context}/Dockerfile`]: `FROM ${host}/${repository(name)}\nRUN true\n` });
    const { code, stderr } = await daemon.tryBuild(dir.join(context));
    assert.equal(code, 1, `${name}: ${stderr}`);
    const error = stderr.slice(stderr.lastIndexOf('error: '));
    assert.match(error, CASES[name]?.error ?? /$^/, `${name}: ${error}`);
    assert.doesNotMatch(stderr, /undefined|TypeError|Cannot read/, name);
    assert.match(error, new RegExp(`${host}|sha256:`), `${name} is not named: ${error}`);
  };
  const before = stateOf(daemon);
  // Together: most of the time goes into waits between tries.
  const settled = await Promise.allSettled(Object.keys(CASES).map(fail));
  assert.deepEqual(
    settled.flatMap((one) => (one.status === 'rejected' ? [String(one.reason.message)] : [])),
    [],
  );
  await assertUsesNoMoreThan(before);
  assert.doesNotMatch(daemon.log(), /level=error/);
  await assertBuilds();
});

/** Nothing is mounted, running or half-written; one lease may keep what was resolved for a while. */
async function assertUsesNoMoreThan(before: DaemonState): Promise<void> {
  await eventually(() => {
    const now = stateOf(daemon);
    assert.deepEqual(now.mounts, before.mounts);
    assert.deepEqual(now.processes, before.processes);
    assert.deepEqual(now.temporaryFiles, before.temporaryFiles);
    assert.ok(now.temporaryLeases <= Math.max(1, before.temporaryLeases));
  });
}

test('a client that gives up does not wait for a registry that is silent', async () => {
  await using silent = await startFaulty(undefined, () => ({ silent: true }));
  await using own = await Daemon.start({ config: `[registry."${silent.host}"]\nhttp = true\n` });
  dir.write({ 'silent/Dockerfile': `FROM ${silent.host}/x\n` });
  const { code, stderr } = await own.tryBuild(dir.join('silent'), [], {
    during: (child) => {
      void eventually(() => assert.ok(silent.seen.length > 0)).then(() => child.kill('SIGINT'));
    },
  });
  assert.equal(code, 1);
  assert.match(stderr, /context canceled/);
  assert.equal(await own.stop(), 0);
});

/** A tar of what `make` puts into a folder, with names changed by tar's --transform. */
function tarOf(make: (path: string) => void, names: readonly string[], transform?: string): Buffer {
  using folder = new TempDir();
  make(folder.path);
  const flags = transform === undefined ? [] : ['-P', `--transform=${transform}`];
  return execFileSync('tar', ['-C', folder.path, '--owner=0', '--group=0', ...flags, '-c', ...names]);
}

/** One tar of several: without the end marks of all but the last. */
function joined(...tars: readonly Buffer[]): Buffer {
  const cut = (tar: Buffer): Buffer => {
    let end = tar.length;
    while (end >= 512 && tar.subarray(end - 512, end).every((byte) => byte === 0)) end -= 512;
    return tar.subarray(0, end);
  };
  return Buffer.concat([...tars.map(cut), Buffer.alloc(1024)]);
}

const one =
  (name: string, content = 'escaped\n') =>
  (path: string) =>
    writeFileSync(`${path}/${name}`, content);

test('layers with names that lead out stay inside', async () => {
  const marker = `bkt-escape-${process.pid}`;
  const layers: Readonly<Record<string, Buffer>> = {
    'dot-dot': tarOf(one('f'), ['f'], `s,f,../../../../../../../../../../tmp/${marker},`),
    absolute: tarOf(one('f'), ['f'], `s,f,/tmp/${marker},`),
    symlink: joined(
      tarOf((path) => symlinkSync('/tmp', `${path}/out`), ['out']),
      tarOf(one('f'), ['f'], `s,f,out/${marker},`),
    ),
    'relative-symlink': joined(
      tarOf((path) => symlinkSync('../../../../../../../../tmp', `${path}/out`), ['out']),
      tarOf(one('f'), ['f'], `s,f,out/${marker},`),
    ),
    'hard-link': tarOf(
      (path) => {
        writeFileSync(`${path}/a`, '');
        execFileSync('ln', [`${path}/a`, `${path}/b`]);
      },
      ['a', 'b'],
      's,^a$,../../../../../../../../../../etc/hostname,hSR',
    ),
    whiteout: tarOf(one('f'), ['f'], `s,f,../../../../../../../../../../tmp/.wh.${marker}-kept,`),
  };
  const keptFile = `/tmp/${marker}-kept`;
  writeFileSync(keptFile, 'kept');
  const hostname = readFileSync('/etc/hostname', 'utf8');
  try {
    for (const [name, layer] of Object.entries(layers)) {
      const image = await registry.pushImage(`evil/${name}`, 'latest', [busyboxLayer(), layer]);
      dir.write({
        [`evil-${name}/Dockerfile`]: `FROM ${image}\nRUN ls / && (cat /tmp/${marker} || true)\n`,
      });
      const { code, stderr } = await daemon.tryBuild(dir.join(`evil-${name}`));
      // Either refused, or unpacked inside the image.
      assert.ok(code === 0 || code === 1, stderr);
      if (code === 1)
        assert.match(
          stderr,
          /error: .*(no such file|breakout|outside|escape|invalid)/i,
          `${name}: ${stderr}`,
        );
      assert.doesNotMatch(stderr, /TypeError|Cannot read/, name);
      assert.equal(existsSync(`/tmp/${marker}`), false, `${name} wrote outside`);
      assert.equal(existsSync(keptFile), true, `${name} removed outside`);
      assert.equal(readFileSync('/etc/hostname', 'utf8'), hostname);
      const inside = filesBelow(daemon.root, '-name', marker);
      const stray = inside.filter((path) => !/snapshots\/\d+\/fs\//.test(path));
      assert.deepEqual(stray, [], `${name} wrote outside its snapshot`);
    }
  } finally {
    execFileSync('rm', ['-f', keptFile, `/tmp/${marker}`]);
  }
  await assertBuilds();
});

test('layers that are no tar, or half of one', async () => {
  const layers: Readonly<Record<string, Buffer>> = {
    noise: Buffer.alloc(5000, 'noise'),
    truncated: busyboxLayer().subarray(0, 200_000),
    'bad-header': Buffer.concat([Buffer.alloc(512, 'x'), Buffer.alloc(1024)]),
  };
  const before = stateOf(daemon);
  for (const [name, layer] of Object.entries(layers)) {
    const image = await registry.pushImage(`broken/${name}`, 'latest', [layer]);
    dir.write({ [`broken-${name}/Dockerfile`]: `FROM ${image}\nRUN true\n` });
    const { code, stderr } = await daemon.tryBuild(dir.join(`broken-${name}`));
    assert.equal(code, 1, `${name}: ${stderr}`);
    assert.match(stderr, /error: .*(tar|header|EOF|layer)/i, name);
    assert.doesNotMatch(stderr, /TypeError|Cannot read/, name);
  }
  await assertUsesNoMoreThan(before);
  await assertBuilds();
});
