import { digestOf } from '../../src/base/digest.ts';
import { decodeDefinition } from '../../src/llb/encode.ts';

/** Digests of all entries of a definition, the last one, which names the result, as well. */
export function messageDigests(definition: Uint8Array): string[] {
  return decodeDefinition(definition).def.map((bytes) => digestOf(bytes));
}
