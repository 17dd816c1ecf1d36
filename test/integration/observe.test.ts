// What a daemon shows of its builds while they run: over http, in the log, in warnings.
import assert from 'node:assert/strict';
import { createServer, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { after, before, test } from 'node:test';
import { Daemon, freePort, Registry, TempDir } from './harness.ts';
import { eventually as within } from './state.ts';

/** Long enough for a busy machine. */
const LIMIT_MS = 60_000;
/** Steps of the large build. */
const BIG = 24;
const eventually = (check: () => void | Promise<void>): Promise<void> => within(check, LIMIT_MS);

let registry: Registry;
let daemon: Daemon;
let debug: string;
const dir = new TempDir();

before(async () => {
  registry = await Registry.start();
  await registry.pushBusybox();
  debug = `127.0.0.1:${await freePort()}`;
  daemon = await Daemon.start({
    config: `max-parallelism = 2\n${registry.config}`,
    args: ['--debugaddr', debug, '--stall-warning', '4s'],
  });
});

after(async () => {
  await daemon?.[Symbol.asyncDispose]();
  await registry?.[Symbol.asyncDispose]();
  dir[Symbol.dispose]();
});

interface Dump {
  readonly builds: readonly { readonly id: string; readonly edges: readonly { readonly name: string }[] }[];
  readonly slots: {
    readonly limit: number;
    readonly running: readonly { readonly name: string; readonly job: string }[];
    readonly waiting: readonly { readonly name: string; readonly jobs: readonly string[] }[];
  };
}

async function state(): Promise<Dump> {
  const answer = await fetch(`http://${debug}/debug/solver`, { headers: { accept: 'application/json' } });
  assert.equal(answer.status, 200);
  return (await answer.json()) as Dump;
}

/** A server whose answers steps wait for. */
async function gate() {
  const waiting: { readonly path: string; readonly response: ServerResponse }[] = [];
  const seen: string[] = [];
  const server = createServer(({ url = '' }, response) => {
    seen.push(url);
    waiting.push({ path: url, response });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  return {
    seen,
    step: (path: string) => `wget -q -O - http://127.0.0.1:${port}/${path}`,
    /** Lets the step go that has waited longest. */
    release: () => waiting.shift()?.response.end('go'),
    [Symbol.dispose]: () => {
      for (const { response } of waiting) response.end('go');
      server.close();
    },
  };
}

function context(name: string, ...commands: readonly string[]): string {
  const stages = commands.map((command, i) => `FROM busybox AS s${i}\nRUN ${command} > /out`);
  const copies = commands.map((_, i) => `COPY --from=s${i} /out /${i}`);
  dir.write({ [`${name}/Dockerfile`]: `${stages.join('\n')}\nFROM scratch\n${copies.join('\n')}\n` });
  return dir.join(name);
}

test('steps that run and wait are told; a small build comes before the rest of a large one', async () => {
  using hold = await gate();
  const big = daemon.build(context('big', ...Array.from({ length: BIG }, (_, i) => hold.step(`big/${i}`))));
  await eventually(async () => {
    const { running, waiting } = (await state()).slots;
    assert.deepEqual([running.length, waiting.length, hold.seen.length], [2, BIG - 2, 2]);
  });
  const small = daemon.build(context('small', hold.step('small')));
  await eventually(async () => {
    const { slots } = await state();
    assert.equal(new Set(slots.waiting.flatMap(({ jobs }) => jobs)).size, 2);
  });
  const text = await (await fetch(`http://${debug}/debug/solver`)).text();
  assert.match(text, /^build \S+: last progress [\d.]+ s ago$/m);
  assert.match(text, /^ {2}\[s\d 2\/2\] RUN wget .*\/big\/\d > \/out: result for [\d.]+ s; runs for/m);
  assert.match(text, /waits for its turn for/);
  assert.match(text, /^2 steps run in 2 places, \d+ wait$/m);
  process.kill(daemon.pid, 'SIGUSR2');
  await eventually(async () => assert.match(daemon.log(), /state: 2 steps run in 2 places, \d+ wait/));
  const going = setInterval(() => hold.release(), 50);
  await Promise.all([big, small]).finally(() => clearInterval(going));
  assert.equal(hold.seen.length, BIG + 1);
  // It has sources to load first, each of which takes its turn.
  assert.ok(hold.seen.indexOf('/small') < BIG / 2, `as number ${hold.seen.indexOf('/small')}`);
  await eventually(async () => assert.deepEqual((await state()).builds, []));
});

test('a build that stands still is warned of in the log', async () => {
  using hold = await gate();
  const build = daemon.build(context('still', hold.step('still')));
  await eventually(async () =>
    assert.match(daemon.log(), /msg="build makes no progress".*RUN wget .*\/still/),
  );
  hold.release();
  await build;
});

test('only the state is served', async () => {
  assert.equal((await fetch(`http://${debug}/debug/pprof/`)).status, 404);
  assert.equal((await fetch(`http://${debug}/debug/solver`, { method: 'POST' })).status, 405);
});
