/** A thing that can be garbage: a blob by digest or a snapshot by name. */
export interface GcNode {
  readonly kind: 'content' | 'snapshot';
  readonly id: string;
}

/** What the collector asks about the graph of things, leases and references. */
export interface GcGraph {
  /** `deep`: a lease that follows references holds the node; `flat`: only leases that do not. */
  held(node: GcNode): 'deep' | 'flat' | undefined;
  /**
   * What refers to the node. `firm` references (a snapshot to its parent) count whatever lease holds the
   * referrer; the others (gc labels) count from deep leases only.
   */
  referrers(node: GcNode): Iterable<{ readonly node: GcNode; readonly firm: boolean }>;
}

/**
 * Whether something keeps `node`. It searches from the node back to a lease, so that the cost is that of the
 * node's own neighbourhood, however large the store is. References may form circles. With `deepOnly`, whether
 * something keeps it in such a way that it keeps what its own labels name.
 */
export function isLive(graph: GcGraph, node: GcNode, deepOnly = false): boolean {
  const open: { node: GcNode; deepOnly: boolean }[] = [{ node, deepOnly }];
  const seen = new Set<string>();
  for (let next = open.pop(); next; next = open.pop()) {
    const key = `${next.deepOnly ? 'd' : 'f'} ${next.node.kind} ${next.node.id}`;
    if (seen.has(key)) continue;
    seen.add(key);
    const held = graph.held(next.node);
    if (held === 'deep' || (held === 'flat' && !next.deepOnly)) return true;
    for (const referrer of graph.referrers(next.node))
      open.push({ node: referrer.node, deepOnly: next.deepOnly || !referrer.firm });
  }
  return false;
}

/** Label prefixes by which a blob keeps other things (FEATURES F10). */
const CONTENT_PREFIX = 'containerd.io/gc.ref.content';
const SNAPSHOT_PREFIX = 'containerd.io/gc.ref.snapshot.';

/** The things that a blob's labels keep. */
export function labelTargets(labels: Readonly<Record<string, string>>): GcNode[] {
  const targets: GcNode[] = [];
  for (const [key, value] of Object.entries(labels)) {
    if (key.startsWith(SNAPSHOT_PREFIX)) targets.push({ kind: 'snapshot', id: value });
    else if (
      key === CONTENT_PREFIX ||
      key.startsWith(`${CONTENT_PREFIX}.`) ||
      key.startsWith(`${CONTENT_PREFIX}/`)
    )
      targets.push({ kind: 'content', id: value });
  }
  return targets;
}
