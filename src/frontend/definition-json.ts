import type { Definition, OpMetadata } from '../llb/ops.ts';

/** A definition in the JSON of error details: wire field names, bytes as base64, empty members left out. */
export function definitionJson(definition: Definition): object {
  const metadata = Object.entries(definition.metadata).map(([digest, op]) => [digest, metadataJson(op)]);
  return {
    def: definition.def.map((bytes) => Buffer.from(bytes).toString('base64')),
    ...(metadata.length === 0 ? {} : { metadata: Object.fromEntries(metadata) }),
  };
}

function metadataJson(op: OpMetadata): object {
  const { ignoreCache, description, exportCache, caps, progressGroup } = op;
  return {
    ...(ignoreCache ? { ignore_cache: true } : {}),
    ...(Object.keys(description).length === 0 ? {} : { description }),
    ...(exportCache ? { export_cache: exportCache.Value ? { Value: true } : {} } : {}),
    ...(Object.keys(caps).length === 0 ? {} : { caps }),
    ...(progressGroup ? { progress_group: progressGroup } : {}),
  };
}
