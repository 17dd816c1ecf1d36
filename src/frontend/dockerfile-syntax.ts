import { BuildError, Code } from '../base/errors.ts';
import { type FoundDirective, findSyntax, isLabs } from '../dockerfile/directives.ts';
import { atLocation } from '../dockerfile/errors.ts';
import type { Location } from '../dockerfile/location.ts';
import { parseReference } from '../oci/reference.ts';

/** Frontend images whose language this frontend speaks. */
const OWN_IMAGES: readonly string[] = ['docker.io/docker/dockerfile', 'docker.io/docker/dockerfile-upstream'];
const SYNTAX_ARG = 'build-arg:BUILDKIT_SYNTAX';
/** Value of the build argument that turns the directive off. */
const BUILT_IN = 'dockerfile.v0';

export interface SyntaxNote {
  readonly message: string;
  readonly location: Location;
}

export interface Syntax {
  /** The image asked for is one of the labs channel. */
  readonly labs: boolean;
  /** What to say about it. */
  readonly note?: SyntaxNote;
}

/**
 * The frontend that the file or the client asks for.
 * @throws {BuildError} for an image of another language
 */
export function checkSyntax(text: string, options: ReadonlyMap<string, string>): Syntax {
  const started = options.get('cmdline');
  // As which image this frontend was started: the file has been looked at.
  if (started !== undefined) return { labs: isLabs(imageOf(started)) };
  const argument = options.get(SYNTAX_ARG);
  if (argument !== undefined) {
    const ref = imageOf(argument);
    if (ref === BUILT_IN) return { labs: false };
    return check(
      ref,
      [],
      () => new BuildError(`failed with ${SYNTAX_ARG} = ${argument}: ${refused(ref)}`, UNIMPLEMENTED),
    );
  }
  const directive: FoundDirective | undefined = findSyntax(text);
  if (!directive) return { labs: false };
  const { value, location } = directive;
  return check(value, location, () => atLocation(new BuildError(refused(value), UNIMPLEMENTED), location));
}

function imageOf(commandLine: string): string {
  return commandLine.trim().split(' ')[0] ?? '';
}

const UNIMPLEMENTED = { code: Code.unimplemented };

function refused(ref: string): string {
  return `syntax ${ref}: frontend images are not supported yet`;
}

function check(ref: string, location: Location, error: () => BuildError): Syntax {
  if (!isOwn(ref)) throw error();
  const message = `${ref} is not pulled: this daemon's own Dockerfile frontend builds the file`;
  return { labs: isLabs(ref), note: { message, location } };
}

function isOwn(ref: string): boolean {
  try {
    return OWN_IMAGES.includes(parseReference(ref).name);
  } catch {
    return false; // no reference at all
  }
}
