import { BuildError, Code } from '../base/errors.ts';
import { goJson } from '../base/gojson.ts';
import type { ImmutableRef } from '../cache/ref.ts';
import type { Failures } from '../frontend/bridge.ts';
import { protoJson } from '../frontend/proto-json.ts';
import type { VertexSpec } from '../llb/parse.ts';
import { FailedStep } from '../ops/failed-step.ts';
import type { Job } from '../solver/job.ts';
import type { Vertex } from '../solver/types.ts';

const SOLVE = 'errdefs.Solve';
const VERTEX = 'errdefs.Vertex';
/** JSON of an op that is told with its error: some hold whole files, which do not fit among a call's metadata. */
const MAX_OP_CHARACTERS = 2 << 20;

/** The failed steps of a job, as those who drive its build see them (FEATURES E23, I15). */
export class FailedSteps implements Failures {
  readonly #job: Pick<Job<VertexSpec, ImmutableRef>, 'failure' | 'lookIntoFailures'>;
  readonly #known = new Map<string, FailedStep>();

  constructor(job: Pick<Job<VertexSpec, ImmutableRef>, 'failure' | 'lookIntoFailures'>) {
    this.#job = job;
  }

  keep(): void {
    this.#job.lookIntoFailures();
  }

  describe(error: unknown): BuildError {
    const own = BuildError.from(error);
    const value = (wanted: string): unknown =>
      own.details.find((detail) => 'type' in detail && detail.type === wanted && detail)?.['value' as never];
    const vertex = value(VERTEX) as { readonly digest?: string } | undefined;
    if (!vertex?.digest || value(SOLVE) !== undefined) return own;
    const failure = this.#job.failure(vertex.digest);
    if (!failure) return own;
    const op = goJson(protoJson(failure.vertex.spec.op));
    if (op.length > MAX_OP_CHARACTERS) return own; // clients take it that there is an op
    const step = failure.leftover instanceof FailedStep ? failure.leftover : undefined;
    for (const id of [...(step?.inputIds ?? []), ...(step?.mountIds ?? [])])
      if (step && id !== '') this.#known.set(id, step);
    return own.with({ type: SOLVE, value: solveJson(JSON.parse(op), failure.vertex, step) });
  }

  tree(id: string): ImmutableRef | undefined {
    const step = this.#known.get(id);
    const tree = step?.tree(id);
    if (step && !tree)
      throw new BuildError(`tree ${id} of a failed step is no longer kept`, { code: Code.notFound });
    return tree;
  }
}

/** `errdefs.Solve` in the JSON mapping of Protocol Buffers. */
function solveJson(op: unknown, { options }: Vertex<VertexSpec>, step: FailedStep | undefined): object {
  const { part, inputIds = [], mountIds = [] } = step ?? {};
  const description = Object.entries(options.description);
  return {
    ...(inputIds.length > 0 ? { inputIDs: inputIds } : {}),
    ...(mountIds.length > 0 ? { mountIDs: mountIds } : {}),
    op,
    ...(part ? { [part.kind]: part.index === 0 ? {} : { index: String(part.index) } } : {}),
    ...(description.length > 0 ? { description: options.description } : {}),
  };
}
