import { join } from 'node:path';
import { BuildError, Code } from '../base/errors.ts';
import type { Logger } from '../base/log.ts';
import type { ImmutableRef } from '../cache/ref.ts';
import { Explainer, type OpenJob } from '../explain/explainer.ts';
import type { ManifestJobs } from '../explain/manifest.ts';
import { ExplainStore } from '../explain/store.ts';
import type { BuildExplanation, StepExplanation } from '../explain/types.ts';
import type { VertexSpec } from '../llb/parse.ts';
import type { SolveRequest } from '../pb/control.ts';
import { ExplainDefinition, type ExplainResponse } from '../pb/explain.ts';
import type { JobRunner } from '../pool/types.ts';
import { type RegisteredService, service } from '../rpc/server.ts';
import type { SessionManager } from '../session/manager.ts';
import type { Job } from '../solver/job.ts';
import type { Store } from '../store/store.ts';
import { toldCode } from './told-code.ts';

/** Of an explanation among the documents of a build record. */
export const EXPLANATION_MEDIA_TYPE = 'application/vnd.buildkit-ts.explanation.v1+json';
/** Steps in one message. */
const PAGE = 50;
/** Steps that begin within this time are looked at together, milliseconds. */
const FOLLOW_PAUSE_MS = 200;

export interface ExplainerParts {
  readonly store: Store;
  readonly jobs: JobRunner<ManifestJobs>;
  readonly log: Logger;
}

export interface ExplainServices {
  readonly explainer: Explainer | undefined;
  readonly builds: OpenBuilds;
  /** The build of this name that runs now. */
  readonly running: (ref: string) => OpenBuildJob | undefined;
  /** The same, or one that begins soon. @throws notFound */
  readonly soon: (ref: string, signal: AbortSignal) => Promise<OpenBuildJob>;
}

type OpenBuildJob = Pick<Job<VertexSpec, ImmutableRef>, 'id' | 'trace' | 'signal' | 'progress'>;

export function openExplainer({ store, jobs, log }: ExplainerParts): Explainer {
  const kept = new ExplainStore(store.db, join(store.layout.dir, 'explain'));
  return new Explainer({ store: kept, jobs, log });
}

/** Builds that run, as explanations need to know them. */
export class OpenBuilds {
  readonly #explainer: Explainer | undefined;
  readonly #sessions: Pick<SessionManager, 'find'>;
  readonly #requests = new Map<string, { readonly request: SolveRequest; readonly folders?: string }>();

  constructor(explainer: Explainer | undefined, sessions: Pick<SessionManager, 'find'>) {
    this.#explainer = explainer;
    this.#sessions = sessions;
  }

  /** Until disposed. `folders` names those of the client; else the shared key of its session does. */
  begin(request: SolveRequest, folders?: string): Disposable {
    const own = { request, ...(folders === undefined ? {} : { folders }) };
    const { Ref: ref } = request;
    if (!this.#requests.has(ref)) this.#requests.set(ref, own); // a second one of the name is refused
    return { [Symbol.dispose]: () => void (this.#requests.get(ref) === own && this.#requests.delete(ref)) };
  }

  /** Hands over what is known of the steps of a build while its job still holds them. */
  async ended(job: Pick<OpenBuildJob, 'id' | 'trace'>): Promise<void> {
    const open = this.#open(job);
    if (!this.#explainer || !open) return;
    this.#explainer.ended(open);
    await this.#explainer.settled(open.traces);
  }

  async soFar(job: Pick<OpenBuildJob, 'id' | 'trace'>): Promise<BuildExplanation | undefined> {
    const open = this.#open(job);
    return open && this.#explainer?.soFar(open);
  }

  #open(job: Pick<OpenBuildJob, 'id' | 'trace'>): OpenJob | undefined {
    const ref = job.id;
    const known = this.#requests.get(ref);
    if (!known) return undefined;
    const { FrontendAttrs: attrs, Session: session } = known.request;
    const folders = known.folders ?? this.#sessions.find(session)?.sharedKey ?? '';
    return { ref, attrs, folders, traces: job.trace() };
  }
}

/** As `buildctl build --explain-format json` writes it. */
export function explanationJson(explanation: BuildExplanation): Uint8Array {
  return Buffer.from(`${JSON.stringify(explanation, undefined, 2)}\n`);
}

/** A service of ours: says why steps of a build ran. */
export function explainService(services: ExplainServices): RegisteredService {
  const { explainer, running } = services;
  return service(
    ExplainDefinition,
    {
      explain: async function* ({ ref, follow }, { signal }) {
        if (!explainer)
          throw new BuildError('explanations are switched off', {
            code: Code.failedPrecondition,
            hint: 'set enabled = true in [explain] of buildkitd.toml',
          });
        if (follow) yield* whileItRuns(ref, services, signal);
        await ended(running(ref)?.signal, signal);
        const explanation = await explainer.find(ref);
        if (!explanation) throw new BuildError(`no such build ${ref}`, { code: Code.notFound, told: true });
        yield* toWire(explanation);
      },
    },
    toldCode,
  );
}

/** Steps as they run, each once; ends with the build. */
async function* whileItRuns(
  ref: string,
  { builds, soon }: ExplainServices,
  signal: AbortSignal,
): AsyncGenerator<ExplainResponse> {
  const job = await soon(ref, signal).catch(() => undefined); // of one that is over all is told at once
  if (!job) return;
  const told = new Set<string>();
  for await (const { vertexes } of job.progress.read(signal, { pauseMs: FOLLOW_PAUSE_MS })) {
    if (!vertexes.some(({ digest, started, cached }) => started && !cached && !told.has(digest))) continue;
    const now = await builds.soFar(job);
    const steps = now?.steps.filter(({ vertex }) => !told.has(vertex)) ?? [];
    for (const { vertex } of steps) told.add(vertex);
    if (now && steps.length > 0)
      for (const message of toWire({ ...now, steps })) yield { ...message, preliminary: true };
  }
}

function ended(build: AbortSignal | undefined, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    if (!build || build.aborted) return resolve();
    const onAbort = (): void => reject(BuildError.from(signal.reason));
    if (signal.aborted) return onAbort();
    signal.addEventListener('abort', onAbort, { once: true });
    build.addEventListener(
      'abort',
      () => {
        signal.removeEventListener('abort', onAbort);
        resolve();
      },
      { once: true },
    );
  });
}

/** At least one message. */
function* toWire({ steps, comparedWith }: BuildExplanation): Generator<ExplainResponse> {
  for (let at = 0; at === 0 || at < steps.length; at += PAGE)
    yield {
      comparedWith: BigInt(comparedWith),
      steps: steps.slice(at, at + PAGE).map(stepToWire),
      preliminary: false,
    };
}

function stepToWire({ vertex, name, cached, causes }: StepExplanation): ExplainResponse['steps'][number] {
  return { vertex, name, cached, causes: causes.map((cause) => ({ ...cause })) };
}
