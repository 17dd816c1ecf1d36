import type { ParsedFile } from '../ast.ts';
import { parseStages } from '../instructions/parse.ts';
import type { StagedFile } from '../instructions/types.ts';
import { parseDockerfile } from '../parser.ts';
import { publicError } from './error.ts';

/**
 * Splits a Dockerfile into instructions, with directives, continuations and heredocs taken care of. Variables are not
 * filled in, and neither names nor flags of instructions are checked: `parseInstructions` does that.
 * @throws {DockerfileError}
 */
export function parse(text: string): ParsedFile {
  return orPublicError(() => parseDockerfile(text));
}

/**
 * The stages of a Dockerfile with their instructions understood, flags included. Variables are not filled in.
 * @param file what `parse` gave, or the text
 * @throws {DockerfileError} for an unknown instruction or flag, or one that is written wrong
 */
export function parseInstructions(file: ParsedFile | string): StagedFile {
  return orPublicError(() => {
    const { nodes } = typeof file === 'string' ? parseDockerfile(file) : file;
    return parseStages(nodes);
  });
}

function orPublicError<T>(run: () => T): T {
  try {
    return run();
  } catch (error) {
    throw publicError(error);
  }
}
