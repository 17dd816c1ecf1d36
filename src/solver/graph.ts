import type { SharedVertex } from './shared-vertex.ts';
import type { Result, Vertex } from './types.ts';

/** `root` and all it is made from, inputs first, each once. Without recursion: graphs may be deep. */
export function inputsFirst<T>(root: T, inputsOf: (node: T) => readonly T[]): T[] {
  const order: T[] = [];
  const seen = new Set<T>([root]);
  const stack = [{ node: root, inputs: inputsOf(root), next: 0 }];
  for (let top = stack.at(-1); top; top = stack.at(-1)) {
    if (top.next === top.inputs.length) {
      order.push(top.node);
      stack.pop();
      continue;
    }
    const input = top.inputs[top.next++] as T;
    if (seen.has(input)) continue;
    seen.add(input);
    stack.push({ node: input, inputs: inputsOf(input), next: 0 });
  }
  return order;
}

export function vertexGraph<Spec>(root: Vertex<Spec>): Vertex<Spec>[] {
  return inputsFirst(root, (vertex) => vertex.inputs.map((input) => input.vertex));
}

export function sharedGraph<Spec, R extends Result>(root: SharedVertex<Spec, R>): SharedVertex<Spec, R>[] {
  return inputsFirst(root, (vertex) => vertex.inputs.map((input) => input.shared));
}

/** Whether `from` cannot end before `target` does: through inputs, and through what steps wait for while they run. */
export function waitsFor<Spec, R extends Result>(
  from: SharedVertex<Spec, R>,
  target: SharedVertex<Spec, R>,
): boolean {
  // A set is visited in order of insertion, also what is added meanwhile.
  const found = new Set([from]);
  for (const vertex of found) {
    if (vertex === target) return true;
    for (const input of vertex.inputs) if (!input.isSolved) found.add(input.shared);
    for (const lender of vertex.lenders()) found.add(lender);
  }
  return false;
}

/**
 * Wants every vertex of `graph` until disposed. What nobody wants one turn later is aborted: a solve that hands
 * over to the next is no cancellation.
 */
export function claim<Spec, R extends Result>(graph: readonly SharedVertex<Spec, R>[]): Disposable {
  for (const vertex of graph) vertex.want();
  let held = true;
  return {
    [Symbol.dispose]: () => {
      if (!held) return;
      held = false;
      for (const vertex of graph) vertex.unwant();
      setImmediate(() => {
        for (const vertex of graph) vertex.abortUnwanted();
      });
    },
  };
}
