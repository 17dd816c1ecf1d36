import { BuildError, invalidArgument } from '../base/errors.ts';
import type { ContentIndexes } from '../cache/content-indexes.ts';
import { joinContentDigests } from '../cache/contenthash.ts';
import type { ImmutableRef, RefManager } from '../cache/ref.ts';
import type { DeviceRegistry } from '../executor/cdi/registry.ts';
import type { Executor } from '../executor/types.ts';
import type { Explainer } from '../explain/explainer.ts';
import type { FileOp, SourceOp } from '../llb/ops.ts';
import { decodeDefinition } from '../llb/encode.ts';
import { prunedCacheMounts, type VertexSpec } from '../llb/parse.ts';
import { BuildOpRunner, type BuildOpServices } from '../ops/build.ts';
import { CacheMounts } from '../ops/cache-mounts.ts';
import { cacheMapOf, type ContentKeyServices } from '../ops/content-key.ts';
import { type CombineServices, DiffOpRunner, MergeOpRunner, PassthroughOpRunner } from '../ops/combine.ts';
import type { ContainerServices } from '../ops/container.ts';
import { ExecOpRunner, type ExecOpServices } from '../ops/exec.ts';
import { execDeps, execDigest } from '../ops/exec-key.ts';
import { FileOpRunner, type FileOpServices } from '../ops/file.ts';
import { fileDeps, fileDigest } from '../ops/file-key.ts';
import type { FileActionJobs } from '../ops/filecopy.ts';
import type { GetSecret } from '../ops/secret-mount.ts';
import { SourceOpRunner } from '../ops/source.ts';
import type { ForwardSsh } from '../ops/ssh-mount.ts';
import type { StepLogLimits } from '../ops/step-log.ts';
import type { Platform } from '../oci/platform.ts';
import type { JobRunner } from '../pool/types.ts';
import { Slots } from '../solver/slots.ts';
import type { EdgeRef, Op, PlaceRequest, SolveFor, Vertex } from '../solver/types.ts';
import type { SourceInstance } from '../source/source.ts';
import { layerProgress } from './layer-progress.ts';
import { type MountLocally, readFileIn, withTree } from '../frontend/tree.ts';

export interface OpServices {
  readonly refs: RefManager;
  readonly executor: Executor;
  readonly jobs: JobRunner<FileActionJobs>;
  readonly contentIndexes: Pick<ContentIndexes, 'of' | 'hash' | 'isSmall'>;
  /** Remembers what hashed trees hold. */
  readonly explainer?: Pick<Explainer, 'keep'> | undefined;
  readonly mountLocally: MountLocally;
  readonly tmpDir: string;
  /** Steps that run at once; 0 = no limit (FEATURES A35). */
  readonly maxParallelism: number;
  readonly logLimits?: StepLogLimits;
  readonly tee?: (stream: 1 | 2, data: Uint8Array) => void;
  readonly secrets: (sessions: () => readonly string[]) => GetSecret;
  readonly ssh: (sessions: () => readonly string[]) => ForwardSsh;
  readonly resolveSource: (op: SourceOp, spec: Pick<VertexSpec, 'platform' | 'version'>) => SourceInstance;
  readonly devices: Pick<DeviceRegistry, 'prepare'>;
  /** Path of the program that runs steps of a platform, if they need one. */
  readonly emulator: (platform: Platform) => Promise<string | undefined>;
}

/** Makes the op of each kind of vertex. One per worker: its ops share cache mounts and the parallelism limit. */
export class OpResolver {
  readonly cacheMounts: CacheMounts;
  readonly #services: OpServices;
  readonly slots: Slots;
  readonly #content: ContentKeyServices;

  constructor(services: OpServices) {
    this.#services = services;
    this.cacheMounts = new CacheMounts(services.refs);
    this.slots = new Slots(services.maxParallelism);
    this.#content = {
      hash: async (ref, dir, selectors, signal) =>
        joinContentDigests(await services.contentIndexes.hash(ref, { dir, selectors }, signal)),
      mountLocally: services.mountLocally,
      keep: (look, release) =>
        services.explainer?.keep(
          {
            ...look,
            index: services.contentIndexes.of(look.input),
            small: services.contentIndexes.isSmall(look.input),
          },
          release,
        ) ?? false,
      progress: (context) => ({ signal: context.signal, progress: layerProgress(context.progress) }),
    };
  }

  resolve(vertex: Vertex<VertexSpec>, solve: SolveFor<VertexSpec, ImmutableRef>): Op<ImmutableRef> {
    const { op, metadata } = vertex.spec;
    const kind = op.op;
    switch (kind?.$case) {
      case 'source':
        return new SourceOpRunner(
          this.#services.resolveSource(kind.value, vertex.spec),
          this.#placeFor(vertex),
        );
      case 'exec':
        return new ExecOpRunner(
          kind.value,
          this.#execServices(vertex, op.inputs.length),
          metadata.linuxResources,
        );
      case 'file':
        return new FileOpRunner(kind.value, this.#fileServices(vertex, op.inputs.length));
      case 'merge':
        return new MergeOpRunner(kind.value, this.#combineServices(vertex));
      case 'diff':
        return new DiffOpRunner(kind.value, this.#combineServices(vertex));
      case 'passthrough':
        return new PassthroughOpRunner(kind.value, this.#combineServices(vertex));
      case 'build':
        return new BuildOpRunner(kind.value, this.#buildServices(vertex, solve));
      case undefined:
        throw invalidArgument('invalid nil op');
      default:
        return kind satisfies never;
    }
  }

  /** Another build wants the vertex of `op`. */
  joined(op: Op<ImmutableRef>, vertex: Vertex<VertexSpec>): void {
    if (op instanceof ExecOpRunner) op.relax(vertex.spec.metadata.linuxResources);
  }

  /** Starts the cache mounts afresh that steps of a graph want so. */
  forgetCacheMounts(edge: EdgeRef<VertexSpec>): void {
    const pruned = [...prunedCacheMounts(edge)].map(([id, withBase]) => ({ id, withBase }));
    if (pruned.length > 0) this.cacheMounts.forget(pruned);
  }

  #placeFor({ name }: Vertex<VertexSpec>): (place: PlaceRequest) => Promise<Disposable> {
    return ({ owners, signal }) => this.slots.acquire({ name, owners }, signal);
  }

  /** What containers of a build's clients are made with. */
  containerServices(sessions: () => readonly string[]): Omit<ContainerServices, 'check'> {
    const { refs, executor, tmpDir, secrets, ssh } = this.#services;
    return {
      refs,
      executor,
      tmpDir,
      cacheMounts: this.cacheMounts,
      getSecret: secrets(sessions),
      forwardSsh: ssh(sessions),
    };
  }

  #buildServices(
    { spec, inputs }: Vertex<VertexSpec>,
    solve: SolveFor<VertexSpec, ImmutableRef>,
  ): BuildOpServices {
    return {
      inputs: inputs.length,
      readFile: (ref, path, signal) =>
        withTree(ref, this.#services.mountLocally, signal, (root) => readFileIn(root, path, undefined)),
      solve: (bytes) => {
        const edge = loadNested(bytes, spec);
        this.forgetCacheMounts(edge);
        return solve(edge);
      },
    };
  }

  #combineServices({ name, inputs }: Vertex<VertexSpec>): CombineServices {
    return { refs: this.#services.refs, inputs: inputs.length, description: name };
  }

  #fileServices(vertex: Vertex<VertexSpec>, inputs: number): FileOpServices {
    const { refs, jobs, mountLocally } = this.#services;
    return {
      refs,
      mountLocally,
      description: vertex.name,
      acquire: this.#placeFor(vertex),
      runAction: (action, trees, signal) => jobs.run('runFileAction', { action, trees }, { signal }),
      cacheMap: (op: FileOp) => cacheMapOf(fileDigest(op, inputs), fileDeps(op, inputs), this.#content),
    };
  }

  #execServices(vertex: Vertex<VertexSpec>, inputs: number): ExecOpServices {
    const { platform } = vertex.spec;
    const { refs, executor, tmpDir, secrets, ssh, devices, emulator, logLimits, tee } = this.#services;
    return {
      refs,
      executor,
      tmpDir,
      secrets,
      ssh,
      devices,
      emulator: () => emulator(platform),
      cacheMounts: this.cacheMounts,
      acquire: this.#placeFor(vertex),
      cacheMap: (exec) => cacheMapOf(execDigest(exec, platform), execDeps(exec, inputs), this.#content),
      ...(logLimits ? { logLimits } : {}),
      ...(tee ? { tee } : {}),
    };
  }
}

function loadNested(bytes: Uint8Array, spec: VertexSpec): EdgeRef<VertexSpec> {
  try {
    return spec.parse(decodeDefinition(bytes));
  } catch (error) {
    throw BuildError.wrap(error, 'failed to load LLB');
  }
}
