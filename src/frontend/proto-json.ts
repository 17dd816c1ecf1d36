import { CacheSharingOpt, MountContentCache, MountType, NetMode, SecurityMode } from '../llb/ops.ts';

type Names = Readonly<Record<string, unknown>>;

/** Fields that hold an enum, and its names. */
const ENUMS: ReadonlyMap<string, Names> = new Map<string, Names>([
  ['network', NetMode],
  ['security', SecurityMode],
  ['mountType', MountType],
  ['sharing', CacheSharingOpt],
  ['contentCache', MountContentCache],
]);
/** Fields that are tables of text, whose keys are no field names. */
const TABLES: ReadonlySet<string> = new Set(['attrs', 'description', 'caps', 'metadata', 'locations']);

/**
 * An LLB message in the JSON mapping of Protocol Buffers, for `goJson`: 64-bit numbers as text, enums by
 * name, bytes as base64, members of a oneof always, other empty fields never.
 */
export function protoJson(message: object): Record<string, unknown> {
  const out: Record<string, unknown> = {};
  for (const [name, value] of Object.entries(message)) {
    if (isChoice(value)) out[value.$case] = valueJson(value.$case, value.value);
    else if (!isDefault(value)) out[name] = valueJson(name, value);
  }
  return out;
}

function valueJson(name: string, value: unknown): unknown {
  if (typeof value === 'bigint') return String(value);
  if (typeof value === 'number') return enumName(name, value) ?? value;
  // What is in a list is no table, also when the list has the name of one (`locations`).
  if (Array.isArray(value)) return value.map((item) => valueJson('', item));
  if (typeof value !== 'object' || value === null || value instanceof Uint8Array) return value;
  if (!TABLES.has(name)) return protoJson(value);
  return new Map(Object.entries(value).map(([key, item]) => [key, valueJson('', item)]));
}

function enumName(field: string, value: number): string | undefined {
  return Object.entries(ENUMS.get(field) ?? {}).find(([, number]) => number === value)?.[0];
}

function isChoice(value: unknown): value is { readonly $case: string; readonly value: unknown } {
  return typeof value === 'object' && value !== null && '$case' in value;
}

function isDefault(value: unknown): boolean {
  if (value === undefined || value === '' || value === 0 || value === 0n || value === false) return true;
  if (Array.isArray(value) || value instanceof Uint8Array) return value.length === 0;
  return typeof value === 'object' && value !== null && Object.keys(value).length === 0;
}
