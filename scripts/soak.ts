// Builds for a long time with one daemon and looks at its memory: it must not grow after the first hundred builds.
// Prints the curve, and fails when the end is more than 10 % above it. Needs root; see --help.
import { readdirSync, readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { connect } from '../src/client/client.ts';
import { makeBuild } from '../test/integration/chaos-build.ts';
import { Daemon, freePort, Registry, TempDir } from '../test/integration/harness.ts';
import { Random } from '../test/integration/random.ts';

const { values } = parseArgs({
  options: {
    builds: { type: 'string', default: '1000' },
    seed: { type: 'string', default: '1' },
    heap: { type: 'string' },
    help: { type: 'boolean', default: false },
  },
});

if (values.help) {
  process.stdout.write(
    'scripts/soak.ts [--builds 1000] [--seed N] [--heap DIR]\n' +
      '  --heap  the daemon writes heap snapshots there, after 100 builds and at the end\n',
  );
  process.exit(0);
}

/** Builds that warm the daemon up. */
const WARM = 100;
/** Builds between two looks at the memory. */
const STEP = 50;
const PARALLEL = 2;
const MAX_GROWTH = 1.1;
/** The lowest of several looks, one after the other: buffers come and go. */
const LOOKS = 4;
const LOOK_MS = 500;
/** Time for worker threads that have nothing to do to end. */
const SETTLE_MS = 4_000;
const KIB = 1024;

interface Look {
  readonly builds: number;
  readonly rssMiB: number;
}

/** Resident memory of a process and all that it started, bytes. */
function residentBytes(root: number): number {
  const parents = new Map<number, number>();
  const sizes = new Map<number, number>();
  for (const name of readdirSync('/proc').filter((one) => /^\d+$/.test(one))) {
    try {
      const status = readFileSync(`/proc/${name}/status`, 'utf8');
      parents.set(Number(name), Number(/^PPid:\s+(\d+)/m.exec(status)?.[1]));
      sizes.set(Number(name), Number(/^VmRSS:\s+(\d+)/m.exec(status)?.[1] ?? 0) * KIB);
    } catch {
      // It has ended.
    }
  }
  const isBelow = (pid: number | undefined): boolean =>
    pid === root || (pid !== undefined && pid > 1 && isBelow(parents.get(pid)));
  return [...sizes].reduce((sum, [pid, size]) => sum + (isBelow(pid) ? size : 0), 0);
}

/** Has the daemon collect garbage, through the inspector that it was started with: only what is held is left. */
async function collectGarbage(port: number): Promise<void> {
  const [target] = (await (await fetch(`http://127.0.0.1:${port}/json`)).json()) as {
    webSocketDebuggerUrl: string;
  }[];
  const socket = new WebSocket(target!.webSocketDebuggerUrl);
  const collected = Promise.withResolvers<void>();
  socket.addEventListener('open', () => {
    socket.send(JSON.stringify({ id: 1, method: 'HeapProfiler.enable' }));
    socket.send(JSON.stringify({ id: 2, method: 'HeapProfiler.collectGarbage' }));
  });
  socket.addEventListener('message', ({ data }) => {
    if (JSON.parse(String(data)).id === 2) collected.resolve();
  });
  socket.addEventListener('error', () => collected.reject(new Error('the inspector does not answer')));
  await collected.promise;
  socket.close();
}

async function look(pid: number, port: number, builds: number): Promise<Look> {
  let least = Number.POSITIVE_INFINITY;
  await sleep(SETTLE_MS);
  await collectGarbage(port);
  for (let i = 0; i < LOOKS; i++) {
    await sleep(LOOK_MS);
    least = Math.min(least, residentBytes(pid));
  }
  return { builds, rssMiB: Math.round(least / KIB / KIB) };
}

async function soak(): Promise<{ curve: Look[]; failed: number; canceled: number }> {
  const wanted = Number(values.builds);
  const random = new Random(Number(values.seed));
  await using registry = await Registry.start();
  await registry.pushBusybox();
  using dir = new TempDir();
  const port = await freePort();
  const snapshots = values.heap === undefined ? '' : ' --heapsnapshot-signal=SIGUSR2';
  const env = { NODE_OPTIONS: `--inspect=127.0.0.1:${port}${snapshots}` };
  await using daemon = await Daemon.start({
    config: registry.config,
    env,
    ...(values.heap === undefined ? {} : { cwd: values.heap }),
  });
  using client = connect(daemon.address);
  const curve: Look[] = [];
  let canceled = 0;
  let failed = 0;

  async function one(at: number): Promise<void> {
    const build = makeBuild(random, dir.join(`build-${at % PARALLEL}`), registry.host);
    const abort = new AbortController();
    const timer = random.chance(0.1) ? setTimeout(() => abort.abort(), random.below(1500)) : undefined;
    const target = random.chance(0.05) ? { target: 'none' } : undefined;
    try {
      await client.solve({
        frontend: 'dockerfile.v0',
        frontendAttrs: { ...target },
        localDirs: { context: build.context, dockerfile: build.context },
        exports: [
          { type: 'local', attrs: {}, outputDir: build.out },
          ...(random.chance(0.3)
            ? [{ type: 'image', attrs: { name: `${registry.host}/soak:${random.below(5)}`, push: 'true' } }]
            : []),
        ],
        onStatus: () => {},
        signal: abort.signal,
      });
    } catch (error) {
      if (abort.signal.aborted) canceled++;
      else if (!target) {
        failed++;
        process.stdout.write(`build ${at}: ${error instanceof Error ? error.message : error}\n`);
      }
    } finally {
      clearTimeout(timer);
    }
  }

  for (let done = 0; done < wanted; ) {
    for (const end = done + STEP; done < end; done += PARALLEL)
      await Promise.all(Array.from({ length: PARALLEL }, (_, i) => one(done + i)));
    const seen = await look(daemon.pid, port, done);
    curve.push(seen);
    process.stdout.write(`${JSON.stringify({ ...seen, canceled, failed })}\n`);
    if (values.heap !== undefined && (done === WARM || done >= wanted)) {
      process.kill(daemon.pid, 'SIGUSR2');
      await sleep(20_000);
    }
  }
  return { curve, failed, canceled };
}

const median = (looks: readonly Look[]): number =>
  looks.map(({ rssMiB }) => rssMiB).sort((a, b) => a - b)[looks.length >> 1] ?? 0;

const { curve, failed } = await soak();
const after = curve.filter(({ builds }) => builds > WARM);
// Three looks at each end: one alone may meet a build that was cut short and has not ended yet.
const start = median(after.slice(0, 3));
const end = median(after.slice(-3));
const growth = after.length === 0 ? 1 : end / start;
process.stdout.write(`${start} MiB after ${WARM} builds, ${end} MiB at the end: ${growth.toFixed(3)}\n`);
process.exit(growth <= MAX_GROWTH && failed === 0 ? 0 : 1);
