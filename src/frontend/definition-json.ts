import type { Definition, OpMetadata, Source, SourceInfo } from '../llb/ops.ts';

/**
 * A definition in the JSON of error details and subrequests: wire field names, maps in the order of their keys,
 * bytes as base64, empty members left out.
 */
export function definitionJson(definition: Definition): object {
  return {
    ...listed('def', definition.def.map(base64)),
    ...metadataJson(definition),
    ...(definition.Source ? { Source: sourceJson(definition.Source) } : {}),
  };
}

/** `metadata`: that of all steps by digest. */
export function metadataJson({ metadata }: Definition): { metadata?: object } {
  return mapped('metadata', metadata, opMetadataJson);
}

function opMetadataJson(op: OpMetadata): object {
  const { ignoreCache, description, exportCache, caps, progressGroup, linuxResources } = op;
  return {
    ...(ignoreCache ? { ignore_cache: true } : {}),
    ...mapped('description', description, (text) => text),
    ...(exportCache ? { export_cache: exportCache.Value ? { Value: true } : {} } : {}),
    ...mapped('caps', caps, (enabled) => enabled),
    ...(progressGroup ? { progress_group: filled(progressGroup) } : {}),
    ...(linuxResources ? { linux_resources: filled(linuxResources) } : {}),
  };
}

function sourceJson({ locations, infos }: Source): object {
  return {
    ...mapped('locations', locations, (at) =>
      listed(
        'locations',
        at.locations.map(({ sourceIndex, ranges }) => ({
          ...filled({ sourceIndex }),
          ...listed('ranges', ranges.map(rangeJson)),
        })),
      ),
    ),
    ...listed('infos', infos.map(sourceInfoJson)),
  };
}

export function sourceInfoJson({ filename, data, definition, language }: SourceInfo): object {
  return {
    ...filled({ filename, data: base64(data) }),
    ...(definition ? { definition: definitionJson(definition) } : {}),
    ...filled({ language }),
  };
}

interface Position {
  readonly line: number;
  readonly character: number;
}

export function rangeJson({
  start,
  end,
}: {
  start?: Position | undefined;
  end?: Position | undefined;
}): object {
  return { ...(start ? { start: filled(start) } : {}), ...(end ? { end: filled(end) } : {}) };
}

function base64(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('base64');
}

function listed(key: string, items: readonly unknown[]): object {
  return items.length === 0 ? {} : { [key]: items };
}

function mapped<T>(key: string, map: Readonly<Record<string, T>>, show: (value: T) => unknown): object {
  const entries = Object.entries(map).sort(([a], [b]) => (a < b ? -1 : 1));
  return entries.length === 0 ? {} : { [key]: Object.fromEntries(entries.map(([k, v]) => [k, show(v)])) };
}

/** Without the members that have their type's zero, which Go's encoder leaves out. */
function filled(members: object): object {
  return Object.fromEntries(
    Object.entries(members).filter(([, v]) => ![undefined, '', false, 0, 0n].includes(v)),
  );
}
