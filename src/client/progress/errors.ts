import { isCanceledText, type TreeVertex } from './tree.ts';

/** For each failed step its name and the end of its output. `tail` gives lines that are not in `logs` any more. */
export function errorBlocks(
  vertexes: readonly TreeVertex[],
  tail: (vertex: TreeVertex) => readonly Buffer[],
): Buffer {
  const out: Buffer[] = [];
  for (const vertex of vertexes) {
    if (vertex.error === '' || isCanceledText(vertex.error)) continue;
    out.push(Buffer.from(`------\n > ${vertex.name}:\n`));
    for (const line of [...tail(vertex), ...vertex.logs]) out.push(line, Buffer.from('\n'));
    out.push(Buffer.from('------\n'));
  }
  return Buffer.concat(out);
}
