import { BuildError, Code } from '../base/errors.ts';
import { type FoundDirective, findSyntax } from '../dockerfile/directives.ts';
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

/**
 * What to say about the frontend that the file or the client asks for; undefined without one.
 * @throws {BuildError} for an image of another language
 */
export function checkSyntax(text: string, options: ReadonlyMap<string, string>): SyntaxNote | undefined {
  if (options.has('cmdline')) return undefined;
  const argument = options.get(SYNTAX_ARG);
  if (argument !== undefined) {
    const [ref = ''] = argument.trim().split(' ');
    if (ref === BUILT_IN) return undefined;
    return check(
      ref,
      [],
      () => new BuildError(`failed with ${SYNTAX_ARG} = ${argument}: ${refused(ref)}`, UNIMPLEMENTED),
    );
  }
  const directive: FoundDirective | undefined = findSyntax(text);
  if (!directive) return undefined;
  const { value, location } = directive;
  return check(value, location, () => atLocation(new BuildError(refused(value), UNIMPLEMENTED), location));
}

const UNIMPLEMENTED = { code: Code.unimplemented };

function refused(ref: string): string {
  return `syntax ${ref}: frontend images are not supported yet`;
}

function check(ref: string, location: Location, error: () => BuildError): SyntaxNote {
  if (!isOwn(ref)) throw error();
  return { message: `${ref} is not pulled: this daemon's own Dockerfile frontend builds the file`, location };
}

function isOwn(ref: string): boolean {
  try {
    return OWN_IMAGES.includes(parseReference(ref).name);
  } catch {
    return false; // no reference at all
  }
}
