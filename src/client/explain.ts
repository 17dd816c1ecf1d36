import type { Digest } from '../base/digest.ts';
import type { BuildExplanation, CauseKind, FileChange, StepExplanation } from '../explain/types.ts';
import { ExplainDefinition, type Step } from '../pb/explain.ts';
import type { Client } from './client.ts';
import { prefixed } from './call-error.ts';
import type { CallOptions } from './types.ts';

export interface ExplainOptions extends CallOptions {
  /** Told of steps as they run, while the build goes on; what is said at the end counts. */
  readonly onStep?: ((step: StepExplanation) => void) | undefined;
}

/** Why the steps of build `ref` ran; waits for its end. @throws BuildError; Unimplemented from other daemons */
export async function explain(
  client: Client,
  ref: string,
  { onStep, ...options }: ExplainOptions = {},
): Promise<BuildExplanation> {
  try {
    const service = await client.service(ExplainDefinition);
    const steps: StepExplanation[] = [];
    let comparedWith = 0;
    for await (const response of service.explain({ ref, follow: onStep !== undefined }, options)) {
      if (response.preliminary) {
        for (const step of response.steps) onStep?.(stepFromWire(step));
        continue;
      }
      comparedWith = Number(response.comparedWith);
      steps.push(...response.steps.map(stepFromWire));
    }
    return { steps, comparedWith };
  } catch (error) {
    throw prefixed(error, `failed to explain build ${ref}`);
  }
}

function stepFromWire({ vertex, name, cached, causes }: Step): StepExplanation {
  return {
    vertex: vertex as Digest,
    name,
    cached,
    causes: causes.map((cause) => ({
      ...cause,
      kind: cause.kind as CauseKind,
      change: cause.change as FileChange | '',
      vertex: cause.vertex as Digest | '',
    })),
  };
}
