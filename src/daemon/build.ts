import { type CompatibilityVersion, compatibilityVersion } from '../base/compatibility.ts';
import { BuildError } from '../base/errors.ts';
import type { Logger } from '../base/log.ts';
import { isStoreDamage } from '../cache/damage.ts';
import type { ImmutableRef } from '../cache/ref.ts';
import type { Exporter, ExportSource } from '../exporter/exporter.ts';
import { keyPlatforms } from '../exporter/platforms.ts';
import { platformWarnings } from '../exporter/verify-platforms.ts';
import {
  Bridge,
  type CacheImport,
  type Frontend,
  type SolveRequest,
  type SourceMetaRequest,
  withoutDetour,
} from '../frontend/bridge.ts';
import { type AttestOptions, parseAttestOptions } from '../frontend/attest-options.ts';
import type { RequestStore } from '../frontend/requests.ts';
import { type FrontendResult, type LazyRef, refsOf, treesOf } from '../frontend/result.ts';
import { Container, type ContainerServices } from '../ops/container.ts';
import { parseDefinition, type VertexSpec } from '../llb/parse.ts';
import type { Definition } from '../llb/ops.ts';
import type * as pb from '../pb/control.ts';
import type { SessionExporters } from '../session/caller/exporters.ts';
import type { PolicyVerifier } from '../session/caller/policy.ts';
import type { Job } from '../solver/job.ts';
import type { EdgeRef } from '../solver/types.ts';
import type { Solver } from '../solver/solver.ts';
import { limitsOf } from './build-limits.ts';
import type { BuildRegistry } from './build-registry.ts';
import { CacheExports, type ResultKeys } from './cache-exports.ts';
import { CacheImports } from './cache-imports.ts';
import { cacheImports } from './cache-options.ts';
import { captureSteps } from './capture.ts';
import type { CachePlaces } from './cache-places.ts';
import { exportAll } from './export-all.ts';
import type { MakeExporter } from './exporters.ts';
import type { DiskGuard } from './disk-guard.ts';
import { allowDevices, checkStep, type Entitlement, type Grants, grantEntitlements } from './entitlements.ts';
import { FailedSteps } from './failed-steps.ts';
import { GatewayBuild } from './gateway.ts';
import type { History } from './history/history.ts';
import type { Recording } from './history/recording.ts';
import { allowedDefinition, allowedRequest, policiesOf } from './policy.ts';
import { attachProvenance, factsOf, startRun, withProvenance } from './provenance.ts';
import { refuseUnsupported } from './request-check.ts';
import { resolveSourceMeta } from './source-meta.ts';
import { withSbom } from './sbom.ts';
import { stepLayers } from './step-layers.ts';
import { SystemUsage } from './system-usage.ts';
import type { Worker } from './worker.ts';

const EPOCH_ARG = 'build-arg:SOURCE_DATE_EPOCH';
const HOST_NETWORK = 1;
const INSECURE = 1;
/** How often a build starts over because something was lost from the store. */
const MAX_DAMAGE_RETRIES = 10;

type BuildJob = Job<VertexSpec, ImmutableRef>;

export interface BuildServices {
  readonly solver: Solver<VertexSpec, ImmutableRef>;
  readonly worker: Worker;
  readonly builds: BuildRegistry<GatewayBuild>;
  readonly frontends: ReadonlyMap<string, Frontend>;
  readonly makeExporter: MakeExporter;
  readonly cachePlaces: CachePlaces;
  readonly history: History;
  readonly log: Logger;
  /** The client of a session as one that chooses exporters itself (FEATURES B20). */
  readonly chooserOf: (sessionId: string, signal: AbortSignal) => Promise<SessionExporters>;
  /** The client of a session as one that says which sources its build may use (FEATURES C24). */
  readonly verifierOf: (sessionId: string, signal: AbortSignal) => Promise<PolicyVerifier>;
  readonly entitlements: ReadonlySet<Entitlement>;
  readonly requests: RequestStore;
  /** What provenance tells of this daemon. */
  readonly provenanceEnv: Readonly<Record<string, unknown>>;
  readonly guard: Pick<DiskGuard, 'writing'>;
  /** Aborts when the daemon stops. */
  readonly stopping: AbortSignal;
}

/** Control.Solve: one request from definition or frontend to exported result (FEATURES B6-B9, B17). */
export async function build(
  request: pb.SolveRequest,
  services: BuildServices,
  call: { readonly signal: AbortSignal; readonly ended: BuildParts['ended'] },
): Promise<Record<string, string>> {
  const signal = AbortSignal.any([call.signal, services.stopping]);
  const attrs = request.FrontendAttrs;
  refuseUnsupported(request);
  const version = compatibilityVersion(Number(request.CompatibilityVersion));
  const attest = parseAttestOptions(Object.entries(attrs));
  const granted = grantEntitlements(request.Entitlements, services.entitlements);
  const makeExporter = (type: string, own: Record<string, string>, index: number): Exporter =>
    services.makeExporter({ type, attrs: own, index, sessionId: request.Session });
  const exporters = exportersOf(request).map(({ Type, Attrs }, index) => {
    // Anything but a number is for the frontend to make one of, which is told with the result.
    const epoch = attrs[EPOCH_ARG] ?? 'none';
    const inherited = /^(?:[+-]?\d+)?$/.test(epoch) && Attrs['source-date-epoch'] === undefined;
    return makeExporter(Type, inherited ? { ...Attrs, 'source-date-epoch': epoch } : Attrs, index);
  });
  const cacheExports = new CacheExports(request.Cache, services.cachePlaces, request.Session);
  const { Ref: ref, Frontend: frontend, FrontendAttrs: frontendAttrs } = request;
  const recording = request.Internal
    ? undefined
    : services.history.recording({ ref, frontend, frontendAttrs, exporters });
  const parts: BuildParts = {
    ended: call.ended,
    version,
    granted,
    makeExporter,
    exporters,
    cacheExports,
    recording,
    attest,
  };
  let failure: unknown;
  try {
    await cacheExports.prepare(signal);
    return await run(request, services, signal, parts);
  } catch (error) {
    failure = error;
    throw error;
  } finally {
    await recording?.finish(failure);
  }
}

interface BuildParts {
  /** Looks at a job that is about to close. */
  readonly ended: (job: BuildJob) => Promise<void>;
  readonly version: CompatibilityVersion;
  readonly granted: Grants;
  readonly makeExporter: (type: string, attrs: Record<string, string>, index: number) => Exporter;
  readonly exporters: Exporter[];
  readonly cacheExports: CacheExports;
  /** Begins with the job. */
  readonly recording: Recording | undefined;
  readonly attest: AttestOptions;
}

async function run(
  request: pb.SolveRequest,
  services: BuildServices,
  signal: AbortSignal,
  { ended, version, granted, makeExporter, exporters, cacheExports, recording, attest }: BuildParts,
): Promise<Record<string, string>> {
  using usage = new SystemUsage();
  const provenance = startRun({
    usage,
    compatibilityVersion: version,
    environment: services.provenanceEnv,
  });
  const sessions = request.Session === '' ? [] : [request.Session];
  await using job = services.solver.createJob(request.Ref, { sessions, ...limitsOf(request.FrontendAttrs) });
  await using _memo = services.worker.sources.remember(job.sessions);
  const keys: ResultKeys = new WeakMap();
  const bridge = bridgeOf(job, request, services, { granted, version }, keys);
  const gateway = isDrivenByClient(request) ? new GatewayBuild(bridge) : undefined;
  using _registered = gateway && services.builds.register(request.Ref, gateway);
  recording?.start(job.progress);
  await using stack = new AsyncDisposableStack();
  stack.defer(() => bridge.release());
  stack.defer(() => ended(job));

  const result = gateway
    ? await untilAborted(gateway.result, signal).finally(() => gateway.containers.close())
    : await bridge.solve({ ...rootRequest(request), cacheImports: cacheImports(request.Cache) }, signal);
  await evaluate(result, signal);
  recording?.result(result.metadata);
  const facts = factsOf(result, bridge.scope);
  const scanned = attest.sbom
    ? await withSbom(result, attest.sbom, bridge, rootRequest(request), signal)
    : result;
  const attested = attest.provenance
    ? withProvenance(scanned, facts, attest.provenance, provenance)
    : scanned;
  stack.defer(() => attachProvenance(recording, result, facts, attest, provenance, job.signal));
  let source = await exportSource(attested, signal);
  const chooser = request.EnableSessionExporter
    ? await services.chooserOf(request.Session, signal)
    : undefined;
  if (chooser) {
    const refs = treesOf(result).map(({ id }) => id);
    for (const { Type, Attrs } of await chooser.find({ metadata: source.metadata, refs }, signal))
      exporters.push(makeExporter(Type, Attrs, exporters.length));
  }
  const isEmpty = treesOf(result).length === 0 && !source.metadata.has(keyPlatforms);
  const warnings = isEmpty ? [] : platformWarnings(source, request.FrontendAttrs.platform);
  const store = services.worker.store;
  const sessionId = request.Session;
  const { guard } = services;
  const all = { job, signal, guard, version, sessionId, warnings, cacheExports, store, keys, recording };
  const response = await pastDamage(
    () => exportAll(exporters, source, all),
    async () => {
      await Promise.all(refsOf(attested).map((ref) => ref.renew()));
      source = await exportSource(attested, signal);
    },
  );
  await chooser?.finish(response, signal);
  return response;
}

function exportersOf(request: pb.SolveRequest): readonly pb.Exporter[] {
  if (request.Exporters.length > 0 || request.ExporterDeprecated === '') return request.Exporters;
  return [{ Type: request.ExporterDeprecated, Attrs: request.ExporterAttrsDeprecated }];
}

function bridgeOf(
  job: BuildJob,
  request: pb.SolveRequest,
  services: BuildServices,
  rules: GraphRules,
  keys: ResultKeys,
): Bridge {
  const { worker, cachePlaces, log } = services;
  const imports = new CacheImports(job, { places: cachePlaces, refs: worker.refs, log });
  // They come while the frontend, or the client that drives the build, is still at work.
  if (!request.FrontendAttrs.requestid) imports.begin(cacheImports(request.Cache));
  const resolve = (meta: SourceMetaRequest, signal: AbortSignal) =>
    resolveSourceMeta(meta, job, worker, signal);
  const policies = policiesOf(request, services, resolve);
  const load = (definition: Definition, caches: readonly CacheImport[]) => {
    const edge = loadDefinition(definition, rules, worker);
    worker.ops.forgetCacheMounts(edge);
    let solvedBefore = false;
    return async (signal: AbortSignal) => {
      // Asked again for what was there: it turned out to be lost.
      if (solvedBefore) services.solver.renew(edge);
      const solved = await pastDamage(
        () => job.solve(edge, signal, imports.of(caches)),
        async () => services.solver.renew(edge),
      );
      solvedBefore = true;
      if (solved.value) keys.set(solved.value, solved.keys);
      const { value: ref, steps } = solved;
      const layers = (until: AbortSignal) =>
        stepLayers(steps, job.cacheTrace(), worker.store, {
          signal: until,
          sessions: () => job.sessions,
        });
      return { ref, capture: captureSteps(steps), layers };
    };
  };
  const containers: ContainerServices = {
    ...worker.ops.containerServices(() => job.sessions),
    check: (process) => checkStep(process, rules.granted.names),
  };
  return new Bridge(
    {
      prepare: (definition, caches, own) => {
        const policy = policies.forDefinition(own);
        return policy
          ? async (signal) => load(await allowedDefinition(definition, policy, signal), caches)(signal)
          : load(definition, caches);
      },
      resolveSourceMeta: async (meta, signal) =>
        resolve(await allowedRequest(meta, policies, signal), signal),
      warn: (warning) => job.progress.warn(warning),
      frontends: services.frontends,
      mountLocally: worker.mountLocally,
      openContainer: (options, signal) => Container.open(options, containers, signal),
      failures: new FailedSteps(job),
      newestFile: (path, signal) => worker.jobs.run('newestFile', { path }, { signal }),
      workerPlatforms: worker.platforms.current,
      requests: services.requests,
    },
    { sessionId: request.Session, inputs: request.FrontendInputs, root: rootRequest(request) },
  );
}

/** What is lost from the store is made again by trying again: each time at least one damaged record is gone. */
async function pastDamage<T>(work: () => Promise<T>, renew: () => Promise<void>): Promise<T> {
  for (let left = MAX_DAMAGE_RETRIES; ; left--) {
    try {
      return await work();
    } catch (error) {
      if (left === 0 || !isStoreDamage(error)) throw error;
      await renew();
    }
  }
}

/** What holds for all graphs of a build. */
interface GraphRules {
  readonly granted: Grants;
  readonly version: CompatibilityVersion;
}

function loadDefinition(
  definition: Definition,
  { granted, version }: GraphRules,
  worker: Worker,
): EdgeRef<VertexSpec> {
  try {
    return parseDefinition(definition, {
      version,
      check: ({ spec }) => {
        const exec = spec.op.op?.$case === 'exec' ? spec.op.op.value : undefined;
        if (!exec) return;
        const networkHost = exec.network === HOST_NETWORK;
        const insecure = exec.security === INSECURE;
        checkStep({ networkHost, insecure }, granted.names);
        if (exec.cdiDevices.length > 0)
          exec.cdiDevices = allowDevices(exec.cdiDevices, granted.devices, worker.devices);
      },
    });
  } catch (error) {
    throw BuildError.wrap(error, 'failed to load LLB');
  }
}

function isDrivenByClient({ Definition: definition, Frontend: frontend }: pb.SolveRequest): boolean {
  // An empty definition is one, too: that of the empty tree.
  return frontend === '' && definition === undefined;
}

function rootRequest(request: pb.SolveRequest): SolveRequest {
  return withoutDetour({
    definition: request.Definition,
    frontend: request.Frontend,
    frontendOpt: request.FrontendAttrs,
    frontendInputs: request.FrontendInputs,
    evaluate: false,
  });
}

function untilAborted<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const onAbort = (): void => reject(BuildError.from(signal.reason));
    if (signal.aborted) return onAbort();
    signal.addEventListener('abort', onAbort, { once: true });
    promise.then(resolve, reject).finally(() => signal.removeEventListener('abort', onAbort));
  });
}

/** Solves everything the result holds, at the same time. */
async function evaluate(result: FrontendResult<LazyRef>, signal: AbortSignal): Promise<void> {
  await Promise.all(refsOf(result).map((ref) => ref.result(signal)));
}

async function exportSource(result: FrontendResult<LazyRef>, signal: AbortSignal): Promise<ExportSource> {
  const solved = async (ref: LazyRef | null): Promise<ImmutableRef | null> =>
    ref && (await ref.result(signal));
  const each = async <K, V, W>(map: ReadonlyMap<K, V>, work: (value: V) => Promise<W>): Promise<Map<K, W>> =>
    new Map(await Promise.all([...map].map(async ([key, value]) => [key, await work(value)] as const)));
  const { refs, attestations, metadata } = result;
  return {
    ref: await solved(result.ref),
    ...(refs ? { refs: await each(refs, solved) } : {}),
    metadata,
    ...(attestations
      ? {
          attestations: await each(attestations, (list) =>
            Promise.all(list.map(async (one) => ({ ...one, ref: await solved(one.ref) }))),
          ),
        }
      : {}),
  };
}
