import { join } from 'node:path';
import { BuildError, Code } from '../base/errors.ts';
import type { Logger } from '../base/log.ts';
import type { ImmutableRef } from '../cache/ref.ts';
import { Explainer } from '../explain/explainer.ts';
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

export interface ExplainerParts {
  readonly store: Store;
  readonly jobs: JobRunner<ManifestJobs>;
  readonly log: Logger;
}

export interface ExplainServices {
  readonly explainer: Explainer | undefined;
  /** Aborts when the build ends; undefined when none of this name runs. */
  readonly running: (ref: string) => AbortSignal | undefined;
}

export function openExplainer({ store, jobs, log }: ExplainerParts): Explainer {
  const kept = new ExplainStore(store.db, join(store.layout.dir, 'explain'));
  return new Explainer({ store: kept, jobs, log });
}

/**
 * Hands over what is known of the steps of a build while its job still holds them. `folders` names those of the
 * client; else the shared key of its session does.
 */
export function jobExplainer(explainer: Explainer | undefined, sessions: Pick<SessionManager, 'find'>) {
  return async (
    job: Pick<Job<VertexSpec, ImmutableRef>, 'trace'>,
    { Ref: ref, FrontendAttrs: attrs, Session: session }: SolveRequest,
    folders = sessions.find(session)?.sharedKey ?? '',
  ): Promise<void> => {
    if (!explainer) return;
    const traces = job.trace();
    explainer.ended({ ref, attrs, folders, traces });
    await explainer.settled(traces);
  };
}

/** As `buildctl build --explain-format json` writes it. */
export function explanationJson(explanation: BuildExplanation): Uint8Array {
  return Buffer.from(`${JSON.stringify(explanation, undefined, 2)}\n`);
}

/** A service of ours: says why steps of a build ran. */
export function explainService({ explainer, running }: ExplainServices): RegisteredService {
  return service(
    ExplainDefinition,
    {
      explain: async function* ({ ref }, { signal }) {
        if (!explainer)
          throw new BuildError('explanations are switched off', {
            code: Code.failedPrecondition,
            hint: 'set enabled = true in [explain] of buildkitd.toml',
          });
        await ended(running(ref), signal);
        const explanation = await explainer.find(ref);
        if (!explanation) throw new BuildError(`no such build ${ref}`, { code: Code.notFound, told: true });
        yield* toWire(explanation);
      },
    },
    toldCode,
  );
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
    yield { comparedWith: BigInt(comparedWith), steps: steps.slice(at, at + PAGE).map(stepToWire) };
}

function stepToWire({ vertex, name, cached, causes }: StepExplanation): ExplainResponse['steps'][number] {
  return { vertex, name, cached, causes: causes.map((cause) => ({ ...cause })) };
}
