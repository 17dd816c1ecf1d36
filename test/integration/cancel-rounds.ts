// Builds that share steps and are cancelled at random: what runs, runs once; in the end nothing does.
import assert from 'node:assert/strict';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { isCanceled } from '../../src/base/errors.ts';
import { connect } from '../../src/client/client.ts';
import { solve } from '../../src/client/solve.ts';
import { randomOf } from '../../src/testing/sim/random.ts';
import { type Daemon, TempDir } from './harness.ts';
import { descendants, eventually, mountPoints } from './state.ts';

/** How long a step takes; a build is a few of them. */
const STEP_MS = 300;
/** Builds are cancelled within this time. */
const CANCEL_WITHIN_MS = 5000;
/** A round that takes this long hangs. */
const ROUND_LIMIT_MS = 300_000;
const SETTLE_MS = 60_000;
/** So many builds go on in the same way from the steps that all share: some steps lose all who want them. */
const BUILDS_PER_VARIANT = 2;

export interface Sums {
  done: number;
  canceled: number;
  steps: number;
  /** Steps that ended because nobody wanted them any more. */
  killed: number;
}

/** What steps ask while they run: a step that ends well beside another of its kind has run twice. */
class Steps {
  readonly #server: Server;
  readonly #open = new Map<string, { doubled: boolean }>();
  readonly twice: string[] = [];
  answered = 0;
  killed = 0;

  constructor() {
    this.#server = createServer(({ url = '' }, response) => {
      // One that was cancelled may still be ending when the next begins; it must not end well.
      const older = this.#open.get(url);
      if (older) older.doubled = true;
      const own = { doubled: false };
      this.#open.set(url, own);
      const timer = setTimeout(() => {
        if (own.doubled) this.twice.push(url);
        this.answered++;
        response.end('go on');
      }, STEP_MS);
      response.on('close', () => {
        if (!response.writableFinished) this.killed++;
        clearTimeout(timer);
        if (this.#open.get(url) === own) this.#open.delete(url);
      });
    });
  }

  get running(): number {
    return this.#open.size;
  }

  async listen(): Promise<string> {
    await new Promise<void>((resolve) => this.#server.listen(0, '127.0.0.1', resolve));
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  [Symbol.dispose](): void {
    this.#server.closeAllConnections();
    this.#server.close();
  }
}

/** Runs rounds of builds against `daemon`; half of the builds are cancelled. @throws when a rule is broken */
export async function cancelRounds(
  daemon: Daemon,
  { rounds, builds, seed }: { readonly rounds: number; readonly builds: number; readonly seed: number },
  onRound: (round: number, sums: Sums) => void = () => {},
): Promise<Sums> {
  const random = randomOf(seed);
  const sums: Sums = { done: 0, canceled: 0, steps: 0, killed: 0 };
  using steps = new Steps();
  using dir = new TempDir();
  const address = await steps.listen();
  const mounts = mountPoints(daemon.pid, daemon.root);
  const processes = descendants(daemon.pid);
  for (let round = 1; round <= rounds; round++) {
    const contexts = Array.from({ length: Math.ceil(builds / BUILDS_PER_VARIANT) }, (_, variant) =>
      dir.write({ [`${variant}/Dockerfile`]: dockerfile(address, round, variant) }),
    ).map((path, variant) => `${path}/${variant}`);
    const all = Array.from({ length: builds }, async () => {
      const abort = new AbortController();
      const context = contexts[random(contexts.length)] ?? '';
      const cancelAfter = random(2) === 0 ? random(CANCEL_WITHIN_MS) : undefined;
      await sleep(random(300));
      await one(daemon, context, abort, cancelAfter, sums);
    });
    const late = sleep(ROUND_LIMIT_MS, undefined, { ref: false }).then(() => {
      throw new Error(`round ${round} hangs: ${steps.running} steps run`);
    });
    await Promise.race([Promise.all(all), late]);
    assert.deepEqual(steps.twice, [], `round ${round}: steps that ran twice at once`);
    await eventually(() => {
      assert.equal(steps.running, 0, `round ${round}: steps run on`);
      assert.deepEqual(descendants(daemon.pid), processes, `round ${round}: processes run on`);
      assert.deepEqual(mountPoints(daemon.pid, daemon.root), mounts, `round ${round}: mounts are left`);
    }, SETTLE_MS);
    Object.assign(sums, { steps: steps.answered, killed: steps.killed });
    onRound(round, sums);
  }
  return sums;
}

async function one(
  daemon: Daemon,
  context: string,
  abort: AbortController,
  cancelAfter: number | undefined,
  sums: Sums,
): Promise<void> {
  using client = connect(daemon.address);
  const timer = cancelAfter === undefined ? undefined : setTimeout(() => abort.abort(), cancelAfter);
  try {
    await solve(client, {
      frontend: 'dockerfile.v0',
      frontendAttrs: {},
      localDirs: { context, dockerfile: context },
      signal: abort.signal,
    });
    sums.done++;
  } catch (error) {
    if (!abort.signal.aborted || !isCanceled(error)) throw error;
    sums.canceled++;
  } finally {
    clearTimeout(timer);
  }
}

/** Two steps that all builds of a round share, then some that only builds of a variant do. */
function dockerfile(address: string, round: number, variant: number): string {
  const step = (name: string): string => `RUN wget -q -O /made ${address}/${round}/${name}`;
  return [
    'FROM busybox AS base',
    step('base'),
    step('more'),
    'FROM base AS side',
    step(`side${variant % 2}`),
    'FROM base',
    step(`own${variant}`),
    'COPY --from=side /made /side',
    step(`last${variant}`),
    '',
  ].join('\n');
}
