import { BuildError } from '../base/errors.ts';
import { Definition as DefinitionMessage } from '../pb/ops.ts';
import type { Definition } from './types.ts';

/** The bytes of a definition. */
export function definitionBytes(definition: Definition): Uint8Array {
  return definition instanceof Uint8Array ? definition : definition.toBytes();
}

/** @throws BuildError for bytes that are none */
export function definitionMessage(definition: Definition): DefinitionMessage {
  const bytes = definitionBytes(definition);
  try {
    return DefinitionMessage.decode(bytes);
  } catch (error) {
    throw BuildError.wrap(error, 'failed to parse the definition');
  }
}
