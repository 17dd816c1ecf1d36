// Builds of random Dockerfiles while the daemon is killed or its disk fills, and what must hold afterwards.
import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdirSync, readFileSync, rmSync, statfsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { makeBuild, type RandomBuild } from './chaos-build.ts';
import { Daemon, Registry, type RunResult, TempDir } from './harness.ts';
import { Random } from './random.ts';
import { filesBelow, mountPoints, processesInside } from './state.ts';

export interface ChaosOptions {
  /** Builds in all, those that are cut short included. */
  readonly builds: number;
  /** Fewer rounds, when these come first. */
  readonly rounds?: number;
  readonly seed: number;
  /** Size in MiB of a disk for the state directory, which is filled at random points; absent: no such disk. */
  readonly diskMiB?: number;
  readonly log: (line: string) => void;
}

export interface ChaosSummary {
  rounds: number;
  builds: number;
  /** Builds under way when the daemon was killed. */
  cutShort: number;
  kills: number;
  /** Times that the disk was filled while builds ran. */
  fills: number;
  /** Builds that said that the disk was full. */
  outOfSpace: number;
  /** Builds on a daemon that was left alone, and had room: each must succeed. */
  checked: number;
  /** What must not be: each with the round and what was said. */
  failures: string[];
}

/** Builds at once, at most. */
const MAX_PARALLEL = 3;
const MAX_DELAY_MS = 2500;
/** How long a disk stays full, at most. */
const MAX_FULL_MS = 20_000;
/** How long a daemon that was left alone may take to clear up. */
const SETTLE_LIMIT_MS = 20_000;
/** What steps share, and what interrupted downloads left for the next try. */
const LASTING = ['hosts', 'resolv.conf', 'ingest-*'].flatMap((name) => ['-not', '-name', name]);
/** A program in a step says in its own words that it could not write. */
const STEP = /did not complete successfully/;
const SPACE = /no space left on device|ENOSPC|disk is full/i;

export async function runChaos(options: ChaosOptions): Promise<ChaosSummary> {
  await using registry = await Registry.start();
  await registry.pushBusybox();
  using dir = new TempDir();
  using disk = options.diskMiB === undefined ? undefined : new Disk(dir, options.diskMiB);
  const root = disk ? join(disk.path, 'root') : dir.join('root');
  await using chaos = new Chaos(options, dir, root, registry, disk);
  const { builds, rounds = Number.POSITIVE_INFINITY } = options;
  while (chaos.summary.builds < builds && chaos.summary.rounds < rounds) await chaos.round();
  await chaos.last();
  return chaos.summary;
}

class Chaos implements AsyncDisposable {
  readonly summary: ChaosSummary = {
    rounds: 0,
    builds: 0,
    cutShort: 0,
    kills: 0,
    fills: 0,
    outOfSpace: 0,
    checked: 0,
    failures: [],
  };
  readonly #options: ChaosOptions;
  readonly #dir: TempDir;
  readonly #root: string;
  readonly #registry: Registry;
  readonly #disk: Disk | undefined;
  readonly #random: Random;
  #daemon: Daemon | undefined;

  constructor(options: ChaosOptions, dir: TempDir, root: string, registry: Registry, disk: Disk | undefined) {
    this.#options = options;
    this.#dir = dir;
    this.#root = root;
    this.#registry = registry;
    this.#disk = disk;
    this.#random = new Random(options.seed);
  }

  /** Builds until something happens, then the same builds again on a daemon that is left alone. */
  async round(): Promise<void> {
    const { summary } = this;
    const round = ++summary.rounds;
    const daemon = (this.#daemon ??= await this.#start());
    const builds = Array.from({ length: 1 + this.#random.below(MAX_PARALLEL) }, (_, i) =>
      makeBuild(this.#random, this.#dir.join(`context-${i}`), this.#registry.host),
    );
    const running = builds.map((build) => this.#build(daemon, build));
    const delay = this.#random.below(MAX_DELAY_MS);
    const filled = this.#disk !== undefined && this.#random.chance(0.8);
    if (this.#disk && filled) await this.#fillFor(this.#disk, delay, running);
    else await Promise.race([sleep(delay), Promise.allSettled(running)]);
    const kill = this.#disk ? this.#random.chance(0.3) : this.#random.chance(0.9);
    if (kill) {
      await daemon.stop('SIGKILL');
      summary.kills++;
    }
    const results = await Promise.all(running);
    for (const { code, stderr } of results) {
      if (code !== 0 && kill) summary.cutShort++;
      else if (code !== 0 && (SPACE.test(stderr) || (filled && STEP.test(stderr)))) summary.outOfSpace++;
      else if (code !== 0) this.#fail(round, 'a build failed', stderr);
    }
    if (kill) {
      await daemon[Symbol.asyncDispose]();
      this.#daemon = await this.#start();
    }
    await this.#fsck(round);
    for (const build of builds) await this.#check(round, build);
    if (round % 10 === 0) {
      await this.#settled(round);
      this.#options.log(JSON.stringify({ ...summary, failures: summary.failures.length }));
    }
  }

  async last(): Promise<void> {
    await this.#settled(this.summary.rounds);
    const daemon = this.#daemon;
    if (!daemon) return;
    if ((await daemon.stop()) !== 0) this.#fail(this.summary.rounds, 'the daemon did not stop', daemon.log());
    for (const left of [...mountPoints('self', this.#root), ...processesInside(this.#root)])
      this.#fail(this.summary.rounds, 'left behind after the stop', left);
  }

  async #start(): Promise<Daemon> {
    return await Daemon.start({ root: this.#root, config: this.#registry.config });
  }

  async #build(daemon: Daemon, build: RandomBuild): Promise<RunResult> {
    this.summary.builds++;
    rmSync(build.out, { recursive: true, force: true });
    return await daemon.tryBuild(build.context, build.args);
  }

  /** The same build where nothing is in its way: it must succeed, and give what it should. */
  async #check(round: number, build: RandomBuild): Promise<void> {
    const daemon = this.#daemon;
    if (!daemon) return;
    this.summary.checked++;
    const { code, stderr } = await this.#build(daemon, build);
    // A small disk is full of what was built before.
    if (code !== 0 && this.#disk && SPACE.test(stderr)) {
      await daemon.buildctl(['prune', '--all']);
      await this.#retry(round, build);
      return;
    }
    if (code !== 0) return this.#fail(round, 'a build failed', `${stderr}\n${daemon.log()}`);
    this.#compare(round, build);
  }

  async #retry(round: number, build: RandomBuild): Promise<void> {
    const daemon = this.#daemon;
    if (!daemon) return;
    const { code, stderr } = await this.#build(daemon, build);
    if (code !== 0) this.#fail(round, 'a build failed after a prune', `${stderr}\n${daemon.log()}`);
    else this.#compare(round, build);
  }

  #compare(round: number, build: RandomBuild): void {
    for (const [name, content] of Object.entries(build.expected)) {
      let found = 'nothing';
      try {
        found = readFileSync(join(build.out, name), 'utf8');
      } catch {
        // Told below.
      }
      if (found !== content) this.#fail(round, `wrong content of ${name}`, `${found}, expected ${content}`);
    }
  }

  async #fsck(round: number): Promise<void> {
    const { code, stdout, stderr } = await this.#daemon!.buildctl(['debug', 'fsck']);
    if (code !== 0) this.#fail(round, 'the store is damaged', stdout.toString() + stderr);
  }

  /** Nothing is mounted, runs or lies about when no build does. */
  async #settled(round: number): Promise<void> {
    const daemon = this.#daemon;
    if (!daemon) return;
    const state = join(this.#root, 'buildkit-ts');
    const limit = Date.now() + SETTLE_LIMIT_MS;
    for (;;) {
      const mounts = mountPoints(daemon.pid, this.#root);
      const files = ['tmp', 'trash', 'run', 'executor'].flatMap((area) =>
        filesBelow(join(state, area), '-type', 'f', ...LASTING),
      );
      if (mounts.length + files.length === 0) break;
      if (Date.now() > limit) {
        this.#fail(round, 'left behind', [...mounts, ...files].join('\n'));
        break;
      }
      await sleep(200);
    }
    const { code, stdout, stderr } = await daemon.buildctl(['debug', 'fsck', '--deep']);
    if (code !== 0) this.#fail(round, 'the store is damaged', stdout.toString() + stderr);
  }

  async #fillFor(disk: Disk, delay: number, running: readonly Promise<RunResult>[]): Promise<void> {
    await sleep(this.#random.below(delay + 1));
    disk.fill(this.#random.below(4 << 20));
    this.summary.fills++;
    const hold = this.#random.below(MAX_DELAY_MS);
    // Mostly until a build has come across it.
    await (this.#random.chance(0.7) ? Promise.race([...running, sleep(MAX_FULL_MS)]) : sleep(hold));
    disk.free();
  }

  #fail(round: number, what: string, detail: string): void {
    const text = `round ${round}, seed ${this.#options.seed}: ${what}: ${detail}`;
    this.summary.failures.push(text);
    this.#options.log(text);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#daemon?.[Symbol.asyncDispose]();
  }
}

/** A file system of its own on a loop device. */
class Disk implements Disposable {
  readonly path: string;
  readonly #filler: string;

  constructor(dir: TempDir, sizeMiB: number) {
    this.path = dir.join('disk');
    this.#filler = join(this.path, 'filler');
    mkdirSync(this.path);
    const image = dir.join('disk.img');
    execFileSync('truncate', ['-s', `${sizeMiB}M`, image]);
    execFileSync('mkfs.ext4', ['-q', '-F', '-m', '0', image]);
    execFileSync('mount', ['-o', 'loop', image, this.path]);
  }

  /** Leaves `bytes` free. */
  fill(bytes: number): void {
    const { bavail, bsize } = statfsSync(this.path);
    const wanted = bavail * bsize - bytes;
    if (wanted <= 0) return;
    try {
      execFileSync('fallocate', ['-l', String(wanted), this.#filler], { stdio: 'ignore' });
    } catch {
      // Somebody has taken some of it meanwhile: it is full all the same.
      writeFileSync(`${this.#filler}-rest`, randomBytes(0));
    }
  }

  free(): void {
    rmSync(this.#filler, { force: true });
    rmSync(`${this.#filler}-rest`, { force: true });
  }

  [Symbol.dispose](): void {
    execFileSync('umount', ['-l', this.path]);
  }
}
