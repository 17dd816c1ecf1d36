import type { ParsedFile } from '../ast.ts';
import { parseStages } from '../instructions/parse.ts';
import type { StagedFile } from '../instructions/types.ts';
import { parseDockerfile } from '../parser.ts';
import { publicError } from './error.ts';
import { textOf } from './options.ts';

/**
 * Splits a Dockerfile into instructions, with directives, continuations and heredocs taken care of. Variables are not
 * filled in, and neither names nor flags of instructions are checked: `parseInstructions` does that.
 * @param file as text or as the bytes of a file, which need not be UTF-8
 * @throws {DockerfileError}
 */
export function parse(file: string | Uint8Array): ParsedFile {
  return orPublicError(() => parseDockerfile(textOf(file)));
}

/**
 * The stages of a Dockerfile with their instructions understood, flags included. Variables are not filled in.
 * @param file what `parse` gave, or what `parse` takes
 * @throws {DockerfileError} for an unknown instruction or flag, or one that is written wrong
 */
export function parseInstructions(file: ParsedFile | string | Uint8Array): StagedFile {
  return orPublicError(() => {
    const { nodes } = isParsed(file) ? file : parseDockerfile(textOf(file));
    return parseStages(nodes);
  });
}

function isParsed(file: ParsedFile | string | Uint8Array): file is ParsedFile {
  return typeof file === 'object' && 'nodes' in file;
}

function orPublicError<T>(run: () => T): T {
  try {
    return run();
  } catch (error) {
    throw publicError(error);
  }
}
