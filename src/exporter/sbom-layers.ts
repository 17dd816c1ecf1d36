import { keySbomCore, SPDX_TYPE } from '../attest/attestation.ts';
import { goJson } from '../base/gojson.ts';
import { PACKAGE, VERSION } from '../base/version.ts';
import { basePath, cleanPath } from '../match/paths.ts';
import type { Descriptor } from '../oci/descriptor.ts';
import type { ReadAttestation } from './attestations.ts';

/** Which of some files (absolute, clean paths) a layer brings. */
export type FilesInLayer = (layer: Descriptor, wanted: readonly string[]) => Promise<readonly string[]>;

const VERSIONS: readonly unknown[] = ['SPDX-2.1', 'SPDX-2.2', 'SPDX-2.3'];

type Fields = Record<string, unknown>;

/**
 * The bill of materials of the result itself with the layer that each file came with (FEATURES J42); anything
 * else as it is. `layers` bottom up.
 */
export async function withLayerIds(
  attestation: ReadAttestation,
  layers: readonly Descriptor[],
  filesIn: FilesInLayer,
): Promise<ReadAttestation> {
  const document = isCore(attestation) ? documentOf(attestation.predicate) : undefined;
  if (!document) return attestation;
  const packages = objects(document.packages);
  const files = [document, ...packages].flatMap((owner) => objects(owner.files));
  const open = new Map<string, Fields[]>();
  for (const file of files) {
    if (typeof file.fileName !== 'string' || file.comment) continue;
    const path = cleanPath(`/${file.fileName}`);
    open.set(path, [...(open.get(path) ?? []), file]);
  }
  for (const layer of layers.toReversed()) {
    if (open.size === 0) break;
    for (const path of await filesIn(layer, [...open.keys()])) {
      for (const file of open.get(path) ?? []) file.comment = `layerID: ${layer.digest}`;
      open.delete(path);
    }
  }
  document.creationInfo = withCreator(document.creationInfo);
  return { ...attestation, predicate: goJson(document) };
}

function isCore({ predicateType, metadata, path }: ReadAttestation): boolean {
  const core = metadata.get(keySbomCore);
  if (predicateType !== SPDX_TYPE || core === undefined) return false;
  return basePath(path).split('.', 1)[0] === Buffer.from(core).toString();
}

function documentOf(text: string): Fields | undefined {
  try {
    const value: unknown = JSON.parse(text);
    return isObject(value) && VERSIONS.includes(value.spdxVersion) ? value : undefined;
  } catch {
    return undefined; // it is written as it is, or refused, where all statements are
  }
}

function withCreator(info: unknown): Fields {
  const fields = isObject(info) ? info : {};
  const creators = Array.isArray(fields.creators) ? fields.creators : [];
  return { ...fields, creators: [...creators, `Tool: ${PACKAGE}-${VERSION}`] };
}

function objects(list: unknown): Fields[] {
  return Array.isArray(list) ? list.filter(isObject) : [];
}

function isObject(value: unknown): value is Fields {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
