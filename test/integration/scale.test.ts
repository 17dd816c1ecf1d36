// Many layers, and many builds at once.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { after, before, test } from 'node:test';
import { busyboxLayer, Daemon, Registry, TempDir } from './harness.ts';
import { eventually, stateOf } from './state.ts';

const LAYERS = 127;
const BUILDS = 16;

let registry: Registry;
const dir = new TempDir();

before(async () => {
  registry = await Registry.start();
  await registry.pushBusybox();
});

after(async () => {
  await registry?.[Symbol.asyncDispose]();
  dir[Symbol.dispose]();
});

/** A layer with one small file. */
function smallLayer(index: number): Buffer {
  const folder = dir.write({ [`layer-${index}/file-${index}`]: `${index}\n` });
  return execFileSync('tar', [
    '-C',
    `${folder}/layer-${index}`,
    '--owner=0',
    '--group=0',
    '-c',
    `file-${index}`,
  ]);
}

test('an image of 127 layers is pulled, mounted and run, and built upon', async () => {
  const layers = Array.from({ length: LAYERS - 1 }, (_, index) => smallLayer(index));
  const image = await registry.pushImage('deep', 'latest', [busyboxLayer(), ...layers]);
  await using daemon = await Daemon.start({ config: registry.config });
  const context = dir.write({
    'deep/Dockerfile': `FROM ${image} AS b\nRUN for i in $(seq 0 ${LAYERS - 2}); do cat /file-$i || exit 1; done > /all\nFROM scratch\nCOPY --from=b /all /\n`,
  });
  const out = dir.join('deep-out');
  await daemon.build(`${context}/deep`, ['--output', `type=local,dest=${out}`]);
  const expected = layers.map((_, index) => `${index}\n`).join('');
  assert.equal(readFileSync(`${out}/all`, 'utf8'), expected);
  await eventually(() => assert.deepEqual(stateOf(daemon).mounts, []));
});

test('builds at the same time share their steps: each runs once', async () => {
  await using daemon = await Daemon.start({ config: registry.config });
  // Every run of a step adds a line to a folder that the steps share.
  const marks = '--mount=type=cache,target=/marks,id=marks';
  const shared = (name: string, from: string): string =>
    `FROM ${from} AS ${name}\nRUN ${marks} echo ${name} >> /marks/runs; sleep 0.3; echo ${name} > /${name}\n`;
  const builds = Array.from({ length: BUILDS }, async (_, i) => {
    const context = dir.write({
      [`shared-${i}/Dockerfile`]: `${shared('one', 'busybox')}${shared('two', 'one')}${shared('three', 'one')}FROM two\nCOPY --from=three /three /\nRUN ${marks} echo own-${i % 4} >> /marks/runs\n`,
    });
    return await daemon.build(`${context}/shared-${i}`);
  });
  await Promise.all(builds);
  const context = dir.write({
    'look/Dockerfile': `FROM busybox AS b\nRUN ${marks} sort /marks/runs > /runs\nFROM scratch\nCOPY --from=b /runs /\n`,
  });
  await daemon.build(`${context}/look`, ['--output', `type=local,dest=${dir.join('look-out')}`]);
  const expected = ['one', 'two', 'three', 'own-0', 'own-1', 'own-2', 'own-3'].sort();
  assert.deepEqual(readFileSync(dir.join('look-out/runs'), 'utf8').trimEnd().split('\n'), expected);
});

test('one of several clients of a step gives up: the others get it', async () => {
  await using daemon = await Daemon.start({ config: registry.config });
  // Waits for a file that appears in the cache mount of another build: no guessing of times.
  const context = dir.write({
    'wait/Dockerfile': `FROM busybox\nRUN --mount=type=cache,target=/go,sharing=shared,id=go echo run >> /go/runs; while [ ! -e /go/now ]; do sleep 0.05; done; cp /go/runs /runs\n`,
    'go/Dockerfile': `FROM busybox\nRUN --mount=type=cache,target=/go,sharing=shared,id=go touch /go/now\n`,
  });
  const clients: (() => void)[] = [];
  const waiting = new Set<number>();
  const builds = Array.from({ length: 4 }, (_, i) =>
    daemon.tryBuild(`${context}/wait`, [], {
      during: (child) => clients.push(() => child.kill('SIGINT')),
      onStderr: (text) => /\] RUN --mount/.test(text) && waiting.add(i),
    }),
  );
  await eventually(() => assert.equal(waiting.size, builds.length), 20_000);
  clients[0]?.();
  const first = await builds[0];
  assert.equal(first?.code, 1);
  assert.match(first.stderr, /context canceled/);
  await daemon.build(`${context}/go`);
  for (const result of await Promise.all(builds.slice(1))) assert.equal(result.code, 0, result.stderr);
  const look = dir.write({
    'runs/Dockerfile': `FROM busybox AS b\nRUN --mount=type=cache,target=/go,sharing=shared,id=go cp /go/runs /runs\nFROM scratch\nCOPY --from=b /runs /\n`,
  });
  await daemon.build(`${look}/runs`, ['--output', `type=local,dest=${dir.join('runs-out')}`]);
  assert.equal(readFileSync(dir.join('runs-out/runs'), 'utf8'), 'run\n');
});
