// Pushes, pulls and caches through a registry that fails in every way that networks and registries do.
import { randomBytes } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { type Fault, type FaultyServer, type SeenRequest, startFaulty } from '../../src/testing/registry.ts';
import { TokenServer } from '../../src/testing/token-server.ts';
import { Daemon, digest, Registry, TempDir } from './harness.ts';
import { Random } from './random.ts';

export interface RegistryFaultsOptions {
  /** Builds in all; each pushes, pulls, exports a cache or imports one. */
  readonly operations: number;
  /** One request in so many fails. */
  readonly oneIn: number;
  readonly seed: number;
  readonly log: (line: string) => void;
}

export interface RegistryFaultsSummary {
  readonly operations: Record<Operation, number>;
  requests: number;
  readonly faults: Record<FaultKind, number>;
  /** Tokens that were given; each is good for TOKEN_LIFE_MS. */
  tokens: number;
  /** Builds that failed, or gave something else than they should. */
  readonly failures: string[];
}

type Operation = 'push' | 'pull' | 'cache export' | 'cache import';
type FaultKind = (typeof KINDS)[number];

const KINDS = ['drop', 'delay', 'truncate', '429', '500', '401'] as const;
const TOKEN_LIFE_MS = 2000;
const MAX_DELAY_MS = 1500;
const MAX_FILE_BYTES = 3 << 20;
const LOGIN = 'ann:secret';

export async function runRegistryFaults(options: RegistryFaultsOptions): Promise<RegistryFaultsSummary> {
  await using registry = await Registry.start();
  await registry.pushBusybox('base/busybox');
  await using run = new FaultsRun(options, registry);
  await run.start();
  await run.all();
  return run.summary;
}

/** What a build made: its context, and what its result must hold. */
interface Made {
  readonly context: string;
  readonly ref: string;
  readonly content: string;
}

class FaultsRun implements AsyncDisposable {
  readonly summary: RegistryFaultsSummary = {
    operations: { push: 0, pull: 0, 'cache export': 0, 'cache import': 0 },
    requests: 0,
    faults: { drop: 0, delay: 0, truncate: 0, '429': 0, '500': 0, '401': 0 },
    tokens: 0,
    failures: [],
  };
  readonly #options: RegistryFaultsOptions;
  readonly #registry: Registry;
  readonly #random: Random;
  readonly #faultRandom: Random;
  readonly #dir = new TempDir();
  readonly #tokens = new TokenServer({ lifeMs: TOKEN_LIFE_MS, login: LOGIN });
  readonly #stack = new AsyncDisposableStack();
  readonly #pushed: Made[] = [];
  readonly #exported: Made[] = [];
  #proxy!: FaultyServer;
  #writer!: Daemon;
  #reader!: Daemon;
  #count = 0;

  constructor(options: RegistryFaultsOptions, registry: Registry) {
    this.#options = options;
    this.#registry = registry;
    this.#random = new Random(options.seed);
    this.#faultRandom = new Random(options.seed + 1);
  }

  async start(): Promise<void> {
    this.#proxy = this.#stack.use(await startFaulty(this.#registry.host, (request) => this.#fault(request)));
    const { host } = this.#proxy;
    const config = `[registry."${host}"]\nhttp = true\n`;
    this.#writer = this.#stack.use(await Daemon.start({ config }));
    this.#reader = this.#stack.use(await Daemon.start({ config }));
    const auth = Buffer.from(LOGIN).toString('base64');
    this.#dir.write({ 'docker/config.json': JSON.stringify({ auths: { [host]: { auth } } }) });
  }

  /** One daemon writes new things while another, which has nothing, reads old ones. */
  async all(): Promise<void> {
    const { operations, log } = this.#options;
    while (this.#count < operations) {
      const reads = this.#count + 1 < operations && this.#pushed.length > 0 && this.#exported.length > 0;
      await Promise.all([this.#write(), ...(reads ? [this.#read()] : [])]);
      if (this.#count % 20 < 2) log(JSON.stringify(this.#numbers()));
    }
    for (const daemon of [this.#writer, this.#reader]) {
      const { code, stdout } = await daemon.buildctl(['debug', 'fsck']);
      if (code !== 0) this.#fail('the store is damaged', stdout.toString());
    }
    this.#numbers();
  }

  #numbers() {
    this.summary.requests = this.#proxy.seen.length;
    this.summary.tokens = this.#tokens.issued;
    return { ...this.summary, failures: this.summary.failures.length };
  }

  async #write(): Promise<void> {
    const id = this.#count++;
    const { host } = this.#proxy;
    const data = randomBytes(1 + this.#random.below(MAX_FILE_BYTES));
    const context = this.#dir.write({
      [`${id}/Dockerfile`]: `FROM ${host}/base/busybox\nCOPY data /\nRUN sha256sum data >/sum\nRUN echo ${id} >/id\n`,
      [`${id}/data`]: data,
    });
    const push = this.#pushed.length <= this.#exported.length;
    const made = { context: `${context}/${id}`, ref: `${host}/made/x${id}`, content: digest(data).slice(7) };
    if (this.#random.chance(0.2)) await this.#writer.buildctl(['prune', '--all']);
    const args = push
      ? ['--output', `type=image,name=${made.ref},push=true`]
      : ['--export-cache', `type=registry,ref=${made.ref},mode=max`];
    const done = await this.#build(this.#writer, push ? 'push' : 'cache export', made.context, args);
    if (done !== undefined) (push ? this.#pushed : this.#exported).push(made);
  }

  async #read(): Promise<void> {
    const id = this.#count++;
    await this.#reader.buildctl(['prune', '--all']);
    const out = this.#dir.join(`out-${id}`);
    const output = ['--output', `type=local,dest=${out}`];
    const { operations } = this.summary;
    if (operations.pull <= operations['cache import']) {
      const made = this.#random.pick(this.#pushed);
      const context = this.#dir.write({
        [`${id}/Dockerfile`]: `FROM ${made.ref}\nRUN sha256sum -c sum\n`,
      });
      await this.#build(this.#reader, 'pull', `${context}/${id}`, output);
      this.#check('pull', out, made);
      return;
    }
    const made = this.#random.pick(this.#exported);
    const args = ['--import-cache', `type=registry,ref=${made.ref}`, ...output];
    const stderr = await this.#build(this.#reader, 'cache import', made.context, args);
    if (stderr === undefined) return;
    const cached = new Set(stderr.match(/^#\d+ CACHED$/gm)).size;
    if (cached !== 3) this.#fail(`${cached} of 3 steps came from the cache`, stderr);
    this.#check('cache import', out, made);
  }

  /** @returns what was said; undefined when the build failed */
  async #build(
    daemon: Daemon,
    operation: Operation,
    context: string,
    args: readonly string[],
  ): Promise<string | undefined> {
    this.summary.operations[operation]++;
    const env = { DOCKER_CONFIG: this.#dir.join('docker') };
    const { code, stderr } = await daemon.tryBuild(context, args, { env });
    if (code === 0) return stderr;
    this.#fail(operation, stderr);
    return undefined;
  }

  #check(operation: Operation, out: string, { content }: Made): void {
    const sum = existsSync(`${out}/sum`) ? readFileSync(`${out}/sum`, 'utf8') : 'nothing';
    if (!sum.startsWith(content)) this.#fail(operation, `/sum holds ${sum}, not ${content}`);
  }

  #fail(what: string, detail: string): void {
    const text = `seed ${this.#options.seed}: ${what}: ${detail}`;
    this.summary.failures.push(text);
    this.#options.log(text);
  }

  #fault(request: SeenRequest): Fault | undefined {
    if (this.#faultRandom.chance(1 / this.#options.oneIn)) {
      const kind = this.#faultRandom.pick(KINDS);
      this.summary.faults[kind]++;
      return this.#make(kind, request) ?? this.#tokens.fault(request);
    }
    return this.#tokens.fault(request);
  }

  #make(kind: FaultKind, request: SeenRequest): Fault | undefined {
    const isToken = request.url.startsWith('/token');
    const size = Number(request.headers['content-length'] ?? 0);
    const random = this.#faultRandom;
    switch (kind) {
      case 'drop':
        return size > 0 && !isToken ? { cutUploadAfter: random.below(size) } : { hangUp: true };
      case 'delay': {
        // Without a good token there is nothing to pass on.
        const delayMs = 1 + random.below(MAX_DELAY_MS);
        return isToken ? undefined : (this.#tokens.fault(request) ?? { delayMs });
      }
      case 'truncate':
        if (isToken || request.method === 'HEAD') return { hangUp: true };
        return this.#tokens.fault(request) ?? { cutAfter: random.below(50_000) };
      case '429':
        return { status: 429, ...(random.chance(0.5) ? { headers: { 'retry-after': '1' } } : {}) };
      case '500':
        return { status: 500 };
      case '401':
        if (isToken) return { status: 500 };
        return this.#tokens.challenge(request, random.chance(0.5) ? 'invalid_token' : '');
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#stack.disposeAsync();
    this.#dir[Symbol.dispose]();
  }
}
