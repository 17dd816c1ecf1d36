import { BuildError } from '../base/errors.ts';
import { type FoundDirective, findSyntax, isLabs } from '../dockerfile/directives.ts';
import type { Location } from '../dockerfile/location.ts';
import { parseReference } from '../oci/reference.ts';

const SYNTAX_ARG = 'build-arg:BUILDKIT_SYNTAX';
/** Value of the build argument that turns the directive off. */
const BUILT_IN = 'dockerfile.v0';

export interface SyntaxNote {
  readonly message: string;
  readonly location: Location;
}

/** This frontend builds the file. */
export interface OwnSyntax {
  /** The image asked for is one of the labs channel. */
  readonly labs: boolean;
  /** What to say about it. */
  readonly note?: SyntaxNote;
}

/** Another frontend builds it: an image. */
export interface ForeignSyntax {
  readonly image: string;
  /** The image and what is behind it. */
  readonly commandLine: string;
  /** Where the file asks for it; undefined when a build argument does. */
  readonly location: Location | undefined;
}

/**
 * The frontend that the file or the client asks for (FEATURES I5).
 * @param served repositories whose images are not run: this frontend speaks their language
 */
export function frontendFor(
  text: string,
  options: ReadonlyMap<string, string>,
  served: readonly string[],
): OwnSyntax | ForeignSyntax {
  const started = options.get('cmdline');
  // As which image this frontend was started: the file has been looked at.
  if (started !== undefined) return { labs: isLabs(imageOf(started)) };
  const argument = options.get(SYNTAX_ARG);
  if (argument !== undefined) {
    const image = imageOf(argument);
    if (image === BUILT_IN) return { labs: false };
    return ownOr({ image, commandLine: argument, location: undefined }, served);
  }
  const directive: FoundDirective | undefined = findSyntax(text);
  if (!directive) return { labs: false };
  const { value: image, whole: commandLine, location } = directive;
  return ownOr({ image, commandLine, location }, served);
}

/** What an error of the other frontend is when it does not know its own place in the file. */
export function foreignError(error: unknown, { commandLine, location }: ForeignSyntax): BuildError {
  const own = BuildError.from(error);
  if (location) return own;
  return BuildError.wrap(own, `failed with ${SYNTAX_ARG} = ${commandLine}`);
}

function imageOf(commandLine: string): string {
  return commandLine.trim().split(' ')[0] ?? '';
}

function ownOr(foreign: ForeignSyntax, served: readonly string[]): OwnSyntax | ForeignSyntax {
  const { image, location } = foreign;
  if (!isServed(image, served)) return foreign;
  const message = `${image} is not pulled: this daemon's own Dockerfile frontend builds the file`;
  return { labs: isLabs(image), note: { message, location: location ?? [] } };
}

function isServed(image: string, served: readonly string[]): boolean {
  try {
    return served.includes(parseReference(image).name);
  } catch {
    return false; // no reference at all
  }
}
