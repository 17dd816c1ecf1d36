import { randomBytes } from 'node:crypto';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { Code, hasCode } from '../base/errors.ts';
import type { Snapshotter } from '../store/snapshot.ts';
import type { CacheParts } from './core.ts';
import type { TreeView } from './layer-jobs.ts';
import type { LiveRecord } from './live-record.ts';

/** One difference that goes into a tree; an undefined side is the empty tree. */
export interface TreeStep {
  readonly lower: LiveRecord | undefined;
  readonly upper: LiveRecord | undefined;
}

/** The differences that a merge or diff is made from, one for each of its layers. */
export function stepsOf(record: LiveRecord): TreeStep[] {
  return record
    .chain()
    .map((layer) =>
      layer.kind === 'layer'
        ? { lower: layer.parent, upper: layer }
        : { lower: layer.lower, upper: layer.upper },
    );
}

/**
 * Makes the committed snapshot `name` from `steps`, whose trees are there (FEATURES F6). Where snapshots are stacked,
 * the first steps that stand on one another already are the base of the new one.
 */
export async function combineTrees(
  { snapshots, leases, jobs }: CacheParts,
  name: string,
  steps: readonly TreeStep[],
  signal: AbortSignal,
): Promise<void> {
  using lease = leases.hold();
  const key = `merge-${randomBytes(8).toString('hex')}`;
  const named = steps.map(({ lower, upper }) => ({ lower: lower?.row.snapshot, upper: upper?.row.snapshot }));
  const { base, count } = stackedSteps(snapshots, named);
  await snapshots.prepare(key, base, { lease: lease.id, signal });
  const views = await viewsOf(snapshots, [key, ...named.slice(count).flatMap((s) => [s.lower, s.upper])]);
  const diffs = named.slice(count).map(({ lower, upper }) => ({
    lower: lower === undefined ? undefined : views.get(lower),
    upper: upper === undefined ? undefined : views.get(upper),
  }));
  signal.throwIfAborted();
  const usage = await jobs.merge({ target: views.get(key)!, diffs }, { signal });
  try {
    snapshots.commit(name, key, usage);
  } catch (error) {
    // Somebody else has made the same tree meanwhile.
    if (!hasCode(error, Code.alreadyExists)) throw error;
  }
}

/** Trees that are looked up before others get their turn. */
const VIEWS_PER_TURN = 64;

/** What each snapshot is made of, each looked up once: a merge may have thousands of layers on many others. */
async function viewsOf(
  snapshots: Snapshotter,
  names: readonly (string | undefined)[],
): Promise<Map<string, TreeView>> {
  const views = new Map<string, TreeView>();
  for (const name of names) {
    if (name === undefined || views.has(name)) continue;
    views.set(name, { mounts: snapshots.mounts(name), overlay: snapshots.layout(name) });
    if (views.size % VIEWS_PER_TURN === 0) await nextTurn();
  }
  return views;
}

/** How many of the first steps are a stack of snapshots already, and its top. */
function stackedSteps(
  snapshots: Snapshotter,
  steps: readonly { readonly lower: string | undefined; readonly upper: string | undefined }[],
): { base: string | undefined; count: number } {
  let base: string | undefined;
  let count = 0;
  for (const { lower, upper } of steps) {
    if (upper === undefined || lower !== base || snapshots.layout(upper) === undefined) break;
    if (snapshots.stat(upper)?.parent !== lower) break;
    base = upper;
    count++;
  }
  return { base, count };
}
