import { type Digest, digestProblem, isDigest } from '../base/digest.ts';
import { BuildError } from '../base/errors.ts';

/** A normalized image reference: its host is always there. */
export interface ImageReference {
  /** Registry host and repository, `docker.io/library/alpine`. */
  readonly name: string;
  readonly tag?: string;
  readonly digest?: Digest;
}

const DEFAULT_DOMAIN = 'docker.io';
const LEGACY_DOMAIN = 'index.docker.io';
const OFFICIAL = 'library/';
const DEFAULT_TAG = 'latest';
const MAX_NAME_LENGTH = 255;
const COMPONENT = '[a-z0-9]+(?:(?:\\.|_|__|-+)[a-z0-9]+)*';
const HOST = '(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])';
const DOMAIN = `(?:${HOST}(?:\\.${HOST})*|\\[[a-fA-F0-9:]+\\])(?::[0-9]+)?`;
const PATH = `${COMPONENT}(?:/${COMPONENT})*`;
const DIGEST = '[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*[:][0-9a-fA-F]{32,}';
const TAG = '[a-zA-Z0-9_][a-zA-Z0-9_.-]{0,127}';
const REFERENCE = new RegExp(`^((?:${DOMAIN}/)?${PATH})(?::(${TAG}))?(?:@(${DIGEST}))?$`);
/** A line of a Dockerfile is no longer; the pattern takes time in proportion. Keeps it off absurd input. */
const MAX_REFERENCE_LENGTH = 65_536;

/** Reads a reference as users write it: without a host it is one of Docker Hub's. @throws BuildError */
export function parseReference(text: string): ImageReference {
  if (/^[a-f0-9]{64}$/.test(text))
    throw invalid(`invalid repository name (${text}), cannot specify 64-byte hexadecimal strings`);
  const { domain, rest } = splitDomain(text);
  const repository = rest.split(':')[0] ?? '';
  if (repository !== repository.toLowerCase())
    throw invalid(`invalid reference format: repository name (${repository}) must be lowercase`);
  if (text.length > MAX_REFERENCE_LENGTH) throw invalid('invalid reference format');
  const match = REFERENCE.exec(`${domain}/${rest}`);
  if (!match) throw malformed(`${domain}/${rest}`);
  const [, name = '', tag, digest] = match;
  if (name.length - domain.length - 1 > MAX_NAME_LENGTH)
    throw invalid(`repository name must not be more than ${MAX_NAME_LENGTH} characters`);
  if (digest !== undefined && !isDigest(digest)) throw invalid(digestProblem(digest) ?? '');
  return { name, ...(tag === undefined ? {} : { tag }), ...(digest === undefined ? {} : { digest }) };
}

/** Reads a reference without adding a host to its name: `name[:tag][@digest]`. @throws BuildError */
export function parseBareReference(text: string): ImageReference {
  if (text === '') throw invalid('repository name must have at least one component');
  const tooLong = text.length > MAX_REFERENCE_LENGTH;
  const match = tooLong ? null : REFERENCE.exec(text);
  if (!match) throw tooLong ? invalid('invalid reference format') : malformed(text);
  const [, name = '', tag, digest] = match;
  if (digest !== undefined && !isDigest(digest)) throw invalid(digestProblem(digest) ?? '');
  return { name, ...(tag === undefined ? {} : { tag }), ...(digest === undefined ? {} : { digest }) };
}

/** Tells capital letters, also the dotted I and the Kelvin sign, whose small letters are ASCII, from other mistakes. */
function malformed(text: string): BuildError {
  const isCase = REFERENCE.test(text.replaceAll('\u0130', 'i').toLowerCase());
  return invalid(isCase ? 'repository name must be lowercase' : 'invalid reference format');
}

/** Without a code: what upstream says of references has none either. */
function invalid(message: string): BuildError {
  return new BuildError(message);
}

function splitDomain(text: string): { domain: string; rest: string } {
  const slash = text.indexOf('/');
  if (slash < 0) return { domain: DEFAULT_DOMAIN, rest: OFFICIAL + text };
  const first = text.slice(0, slash);
  const isDomain = first === 'localhost' || /[.:]/.test(first) || first !== first.toLowerCase();
  const domain = !isDomain || first === LEGACY_DOMAIN ? DEFAULT_DOMAIN : first;
  const rest = isDomain ? text.slice(slash + 1) : text;
  return { domain, rest: domain === DEFAULT_DOMAIN && !rest.includes('/') ? OFFICIAL + rest : rest };
}

/** Registry host with port, `docker.io`. */
export function referenceHost(reference: ImageReference): string {
  return reference.name.slice(0, reference.name.indexOf('/'));
}

/** Repository below the host, `library/alpine`. */
export function referencePath(reference: ImageReference): string {
  return reference.name.slice(reference.name.indexOf('/') + 1);
}

/** `name[:tag][@digest]`, the host always there. */
export function formatReference(reference: ImageReference): string {
  const tag = reference.tag === undefined ? '' : `:${reference.tag}`;
  return reference.name + tag + (reference.digest === undefined ? '' : `@${reference.digest}`);
}

/** With `:latest` when it has neither tag nor digest. */
export function withDefaultTag(reference: ImageReference): ImageReference {
  return reference.tag === undefined && reference.digest === undefined
    ? { ...reference, tag: DEFAULT_TAG }
    : reference;
}

/** `formatReference` of what `parseReference` gives, with the default tag. */
export function normalizeReference(text: string): string {
  return formatReference(withDefaultTag(parseReference(text)));
}

/** The short form that users write. */
export function familiarReference(reference: ImageReference): string {
  return formatReference({ ...reference, name: familiarName(reference) });
}

/** The name alone in its short form, `alpine` for `docker.io/library/alpine`. */
export function familiarName(reference: ImageReference): string {
  if (referenceHost(reference) !== DEFAULT_DOMAIN) return reference.name;
  const path = referencePath(reference);
  const short = path.startsWith(OFFICIAL) ? path.slice(OFFICIAL.length) : path;
  return short.includes('/') ? path : short;
}
