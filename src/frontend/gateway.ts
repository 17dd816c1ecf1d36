import { type Duplex, duplexPair } from 'node:stream';
import { BuildError } from '../base/errors.ts';
import type { ImmutableRef, RefManager } from '../cache/ref.ts';
import type { ContainerMount, Executor, ProcessMeta } from '../executor/types.ts';
import { Definition } from '../llb/ops.ts';
import { parseReference } from '../oci/reference.ts';
import type { Bridge, Frontend, SolveRequest } from './bridge.ts';
import { capNames, unsupportedCap } from './frontend-caps.ts';
import { type FrontendImage, findFrontendImage } from './frontend-image.ts';
import type { FrontendResult, LazyRef } from './result.ts';

/** Where a frontend finds the graph that its own image was made of. */
const METADATA_DIR = '/run/config/buildkit/metadata';
/** End of a frontend's error stream that an error shows. */
const MAX_STDERR_BYTES = 4 << 10;

/** One frontend at the other end of a byte stream. */
export interface ServedFrontend {
  /** What it returned; undefined as long as it has not. */
  readonly outcome: { result: FrontendResult<LazyRef> } | { error: BuildError } | undefined;
  /** Ends the conversation and what it has opened. */
  close(): Promise<void>;
}

export interface GatewayServices {
  readonly refs: RefManager;
  readonly executor: Executor;
  /** Answers what a frontend asks of `bridge` on the stream. */
  readonly serve: (bridge: Bridge, stream: Duplex) => ServedFrontend;
  /** A folder with one file, valid until it is released. */
  readonly fileIn: (name: string, content: Uint8Array) => { readonly dir: string; release(): void };
  /** What a frontend is told of the workers, as JSON. */
  readonly workers: () => Promise<string>;
  /** Repositories whose images may run; empty: all. */
  readonly allowed: readonly string[];
}

/** `gateway.v0`: runs the frontend in the image that the option `source` names (FEATURES I2-I4). */
export function gatewayFrontend(services: GatewayServices): Frontend {
  return async (bridge, request, signal) => {
    const { source } = request.frontendOpt;
    if (request.frontendOpt['gateway-devel'] !== undefined)
      throw new BuildError('development gateway is no longer supported');
    if (source === undefined) throw new BuildError('no source specified for gateway');
    checkAllowed(source, services.allowed);
    const image = await findFrontendImage(bridge, request, source, signal);
    checkCaps(image, request);
    const { ref } = await bridge.solve({ ...NOTHING, definition: image.definition }, signal);
    if (!ref) throw new BuildError("gateway source didn't return default result");
    const tree = await ref.result(signal);
    return run({ services, bridge, request, image, source, signal }, tree, ref.definition);
  };
}

const NOTHING: SolveRequest = {
  definition: undefined,
  frontend: '',
  frontendOpt: {},
  frontendInputs: {},
  evaluate: false,
};

function checkAllowed(source: string, allowed: readonly string[]): void {
  if (allowed.length === 0) return;
  const { name } = parseReference(source);
  if (!allowed.some((repository) => parseReference(repository).name === name))
    throw new BuildError(`'${source}' is not an allowed gateway source`);
}

function checkCaps({ caps }: FrontendImage, { frontendOpt, frontendInputs }: SolveRequest): void {
  const wanted = capNames(frontendOpt['frontend.caps'] ?? '');
  if (Object.keys(frontendInputs).length > 0) wanted.push('moby.buildkit.frontend.inputs');
  const missing = wanted.find((name) => !caps.has(name));
  if (missing !== undefined) throw unsupportedCap(missing);
}

interface Run {
  readonly services: GatewayServices;
  readonly bridge: Bridge;
  readonly request: SolveRequest;
  readonly image: FrontendImage;
  readonly source: string;
  readonly signal: AbortSignal;
}

async function run(
  all: Run,
  tree: ImmutableRef | null,
  definition: Definition | undefined,
): Promise<FrontendResult<LazyRef>> {
  const { services, bridge, request, image, source, signal } = all;
  const meta = processMeta(image, request, bridge.sessionId, await services.workers());
  const root = await services.refs.newMutable(tree ?? undefined, { description: `frontend ${source}` });
  const metadata = definition && services.fileIn('frontend.bin', Definition.encode(definition).finish());
  const [near, far] = duplexPair();
  const served = services.serve(bridge, near);
  const errors = new Tail(MAX_STDERR_BYTES);
  let failure: BuildError | undefined;
  try {
    await services.executor.run(
      { root: { source: root, readonly: false }, mounts: metadata ? [folder(metadata.dir)] : [], meta },
      {
        signal,
        stdin: far,
        onStdout: (chunk) => send(far, chunk),
        onStderr: (chunk) => errors.add(chunk),
      },
    );
  } catch (error) {
    signal.throwIfAborted();
    failure = BuildError.wrap(error, `frontend ${source} did not complete successfully`);
  } finally {
    far.destroy();
    await served.close();
    metadata?.release();
    await root.release();
  }
  return outcomeOf(served, failure, errors);
}

/** An error that was returned says most; a frontend that ended badly has not succeeded, whatever it returned. */
function outcomeOf(
  { outcome }: ServedFrontend,
  failure: BuildError | undefined,
  errors: Tail,
): FrontendResult<LazyRef> {
  if (outcome && 'error' in outcome) throw outcome.error;
  if (failure && errors.text === '') throw failure;
  if (failure) throw BuildError.wrap(new BuildError(errors.text, { cause: failure }), failure.message);
  if (!outcome) throw new BuildError('no result for incomplete build');
  return outcome.result;
}

/** Resolves when there is room for more. */
function send(stream: Duplex, chunk: Uint8Array): Promise<void> | undefined {
  if (stream.destroyed || stream.write(chunk)) return undefined;
  return new Promise((resolve) => {
    const done = (): void => {
      stream.off('drain', done);
      stream.off('close', done);
      resolve();
    };
    stream.on('drain', done);
    stream.on('close', done);
  });
}

function processMeta(
  { config, networkNone }: FrontendImage,
  { frontendOpt }: SolveRequest,
  sessionId: string,
  workers: string,
): ProcessMeta {
  const options = Object.entries(frontendOpt).map(
    ([key, value], i) => `BUILDKIT_FRONTEND_OPT_${i}=${key}=${value}`,
  );
  return {
    args: config.entrypoint ?? ['/run'],
    env: [
      ...(config.env ?? []),
      ...options,
      `BUILDKIT_SESSION_ID=${sessionId}`,
      `BUILDKIT_WORKERS=${workers}`,
      'BUILDKIT_EXPORTEDPRODUCT=',
    ],
    cwd: config.workingDir || '/',
    removeMountStubsRecursive: true,
    ...(networkNone ? { network: 'none' as const } : {}),
  };
}

function folder(dir: string): ContainerMount {
  const options = ['bind', 'ro', 'nosuid', 'nodev', 'noexec'];
  return {
    dest: METADATA_DIR,
    readonly: true,
    selector: '',
    source: {
      mount: async () => ({ mounts: [{ type: 'bind', source: dir, options }], release: async () => {} }),
    },
  };
}

/** The last bytes of a stream. */
class Tail {
  #bytes: Buffer = Buffer.alloc(0);
  readonly #max: number;

  constructor(max: number) {
    this.#max = max;
  }

  add(chunk: Uint8Array): void {
    this.#bytes = Buffer.concat([this.#bytes, chunk]).subarray(-this.#max);
  }

  get text(): string {
    return this.#bytes.toString().trim();
  }
}
