// A store of very many records: what start, disk usage, prune and builds take with it.
//   node scripts/scale-store.ts [--records 200000] [--prune 10000] [--rounds 3] [--root DIR]
// DIR must be empty, on a file system with a few inodes for each record; default a temporary folder. Prints the
// figures, each with the longest time for which the daemon answered nobody. Status 1 when records are lost, or when a
// build is slowed by a fifth or more.
import { spawn } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, openSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { type Client, connect } from '../src/client/client.ts';
import { fillStore } from '../src/testing/big-store.ts';

const BIN = resolve(import.meta.dirname, '../bin');
/** How often the daemon is asked whether it answers. */
const PROBE_MS = 10;
const MAX_SLOWDOWN = 1.2;
const STEPS = 12;

const string = { type: 'string' } as const;
const { values } = parseArgs({ options: { records: string, prune: string, rounds: string, root: string } });
const records = Number(values.records ?? 200_000);
const pruned = Number(values.prune ?? 10_000);
const rounds = Number(values.rounds ?? 3);

const work = mkdtempSync(join(tmpdir(), 'scale-store-'));
const root = values.root ?? join(work, 'root');
mkdirSync(root, { recursive: true });
try {
  process.exitCode = await main();
} finally {
  rmSync(work, { recursive: true, force: true });
}

interface Daemon extends AsyncDisposable {
  readonly client: Client;
  readonly address: string;
  readonly startMs: number;
}

async function startDaemon(dir: string): Promise<Daemon> {
  const address = `unix://${work}/d.sock`;
  const log = openSync(join(work, 'log'), 'a');
  const args = ['--root', dir, '--addr', address, '--oci-worker-gc=false'];
  const start = performance.now();
  const child = spawn(join(BIN, 'buildkitd'), args, { stdio: ['ignore', log, log] });
  const ended = new Promise((done) => child.once('close', done));
  const client = connect(address);
  for (let answers = false; !answers; )
    answers = await client.info().then(
      () => true,
      () => sleep(5).then(() => child.exitCode !== null),
    );
  if (child.exitCode !== null) throw new Error('the daemon did not start');
  return {
    client,
    address,
    startMs: performance.now() - start,
    [Symbol.asyncDispose]: async () => {
      client.close();
      child.kill();
      await ended;
    },
  };
}

/** Time of `task`, and the longest that the daemon needed for an answer meanwhile. */
async function timed(
  client: Client,
  task: () => Promise<unknown>,
): Promise<{ ms: number; silentMs: number }> {
  let running = true;
  let silentMs = 0;
  const probe = (async () => {
    while (running) {
      const asked = performance.now();
      await client.info();
      silentMs = Math.max(silentMs, performance.now() - asked);
      await sleep(PROBE_MS);
    }
  })();
  const start = performance.now();
  await task();
  const ms = performance.now() - start;
  running = false;
  await probe;
  return { ms, silentMs };
}

function say(what: string, { ms, silentMs }: { ms: number; silentMs?: number }, more = ''): void {
  const silent = silentMs === undefined ? '' : `, silent for at most ${silentMs.toFixed(0)} ms`;
  process.stdout.write(`${what}: ${(ms / 1000).toFixed(2)} s${silent}${more}\n`);
}

async function build({ address }: Daemon, nonce: string): Promise<void> {
  const context = join(work, 'context');
  mkdirSync(context, { recursive: true });
  cpSync('/usr/bin/busybox', join(context, 'busybox'));
  const copies = ['sh', 'seq', 'sha256sum'].map((name) => `COPY --chmod=755 busybox /bin/${name}`);
  const steps = Array.from({ length: STEPS }, (_, i) => `RUN seq 300000 | sha256sum > /step-${nonce}-${i}`);
  writeFileSync(join(context, 'Dockerfile'), ['FROM scratch', ...copies, ...steps, ''].join('\n'));
  const child = spawn(join(BIN, 'buildctl'), ['--addr', address, 'build', context], { stdio: 'ignore' });
  const code = await new Promise((done) => child.once('close', done));
  if (code !== 0) throw new Error(`the build failed: ${code}`);
}

async function count(client: Client): Promise<number> {
  let found = 0;
  for await (const page of client.diskUsagePages()) found += page.records.length;
  return found;
}

async function prune(client: Client, batch: number): Promise<void> {
  let gone = 0;
  for await (const _ of client.prune({ filters: [`description~=/of batch ${batch}$/`] })) gone++;
  if (gone !== pruned) throw new Error(`${gone} records were removed, not ${pruned}`);
}

async function main(): Promise<number> {
  {
    await using daemon = await startDaemon(join(work, 'empty'));
    say('start with an empty store', { ms: daemon.startMs });
  }
  const filling = performance.now();
  await fillStore(root, { records, batch: pruned });
  say(`made ${records} records`, { ms: performance.now() - filling });
  await using daemon = await startDaemon(root);
  const { client } = daemon;
  say(`start with ${records} records`, { ms: daemon.startMs });
  let found = 0;
  say('du', await timed(client, async () => (found = await count(client))), `, ${found} records`);
  say(`prune of ${pruned}`, await timed(client, () => prune(client, 0)));
  const left = await count(client);
  say('a first build', await timed(client, () => build(daemon, 'first')));
  say('the same again', await timed(client, () => build(daemon, 'first')));
  const ratio = await besidePrune(daemon);
  process.stdout.write(`a build beside a prune takes ${ratio.toFixed(2)} of its time alone\n`);
  return found === records && left === records - pruned && ratio < MAX_SLOWDOWN ? 0 : 1;
}

/** Builds alone and beside a prune, in turn. */
async function besidePrune(daemon: Daemon): Promise<number> {
  const sums = { alone: 0, beside: 0 };
  for (let round = 1; round <= rounds; round++) {
    const alone = await timed(daemon.client, () => build(daemon, `alone-${round}`));
    let removing: Promise<void> | undefined;
    const beside = await timed(daemon.client, async () => {
      removing = prune(daemon.client, round);
      await build(daemon, `beside-${round}`);
    });
    await removing;
    say(`build ${round} alone`, alone);
    say(`build ${round} beside a prune`, beside);
    sums.alone += alone.ms;
    sums.beside += beside.ms;
  }
  return sums.beside / sums.alone;
}
