import { type Digest, digestOf } from '../base/digest.ts';
import { BuildError } from '../base/errors.ts';
import { emptyMetadata } from './metadata.ts';
import type { EncodedNode, Output, SourceLocation, SourceMap } from './node.ts';
import { type Definition, Op } from './ops.ts';
import { type State, scratch, stateOf } from './state.ts';

/**
 * The state that a definition describes, to build further on it; its steps keep their bytes, metadata and
 * source locations. A definition without entries is the empty tree. Entries stand behind their inputs.
 */
export function fromDefinition(definition: Definition): State {
  if (definition.def.length === 0) return scratch();
  const maps = sourceMaps(definition);
  const nodes = new Map<Digest, EncodedNode>();
  let head: Output | undefined;
  for (const bytes of definition.def) {
    const digest = digestOf(bytes);
    const { inputs } = Op.decode(bytes);
    const outputs = inputs.map((input): Output => {
      const node = nodes.get(input.digest as Digest);
      if (!node) throw new BuildError(`invalid missing input digest ${input.digest}`);
      return { node, index: Number(input.index) };
    });
    head = outputs[0];
    nodes.set(digest, {
      kind: 'encoded',
      bytes,
      metadata: definition.metadata[digest] ?? emptyMetadata(),
      inputs: outputs,
      caps: [],
      constraints: { locations: locationsOf(definition, digest, maps) },
    });
  }
  return head ? stateOf(head) : scratch();
}

function sourceMaps({ Source }: Definition): SourceMap[] {
  return (Source?.infos ?? []).map(({ filename, language, data, definition }) => ({
    filename,
    language,
    data,
    ...(definition ? { definition } : {}),
  }));
}

function locationsOf({ Source }: Definition, digest: Digest, maps: readonly SourceMap[]): SourceLocation[] {
  const locations = Source?.locations[digest]?.locations ?? [];
  return locations.map(({ sourceIndex, ranges }) => {
    const map = maps[sourceIndex];
    if (!map) throw new BuildError(`failed to find source map with index ${sourceIndex}`);
    return { map, ranges: ranges.flatMap(({ start, end }) => (start && end ? [{ start, end }] : [])) };
  });
}
