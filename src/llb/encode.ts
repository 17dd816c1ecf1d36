import { compareText } from './gopath.ts';
import { Definition, type Locations, Op, type OpMetadata } from './ops.ts';

/**
 * Bytes of an op as Go's deterministic encoder gives them (FEATURES D17): map entries sorted by key, and the
 * member of the one-of behind all other fields.
 */
export function encodeOp(op: Op): Uint8Array {
  const { op: body, ...rest } = sorted(op);
  const writer = Op.encode({ ...rest, op: undefined });
  if (body) Op.encode({ inputs: [], platform: undefined, constraints: undefined, op: body }, writer);
  return writer.finish();
}

/** Bytes of a definition with its maps sorted. */
export function encodeDefinition(definition: Definition): Uint8Array {
  return Definition.encode(sortedDefinition(definition)).finish();
}

export function decodeDefinition(bytes: Uint8Array): Definition {
  return Definition.decode(bytes);
}

function sorted(op: Op): Op {
  if (op.op?.$case === 'source') {
    return { ...op, op: { $case: 'source', value: { ...op.op.value, attrs: sortKeys(op.op.value.attrs) } } };
  }
  if (op.op?.$case === 'build') {
    const { inputs, attrs, def } = op.op.value;
    const value = {
      ...op.op.value,
      inputs: sortKeys(inputs),
      attrs: sortKeys(attrs),
      def: def && sortedDefinition(def),
    };
    return { ...op, op: { $case: 'build', value } };
  }
  return op;
}

function sortedDefinition(definition: Definition): Definition {
  const { metadata, Source } = definition;
  return {
    def: definition.def,
    metadata: sortKeys(mapValues(metadata, sortedMetadata)),
    Source: Source && {
      locations: sortKeys<Locations>(Source.locations),
      infos: Source.infos.map((info) =>
        info.definition ? { ...info, definition: sortedDefinition(info.definition) } : info,
      ),
    },
  };
}

function sortedMetadata(metadata: OpMetadata): OpMetadata {
  return { ...metadata, description: sortKeys(metadata.description), caps: sortKeys(metadata.caps) };
}

function mapValues<T>(record: Readonly<Record<string, T>>, map: (value: T) => T): Record<string, T> {
  return Object.fromEntries(Object.entries(record).map(([key, value]) => [key, map(value)]));
}

function sortKeys<T>(record: Readonly<Record<string, T>>): Record<string, T> {
  return Object.fromEntries(Object.entries(record).sort(([a], [b]) => compareText(a, b)));
}
