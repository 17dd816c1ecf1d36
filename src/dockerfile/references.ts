import { invalidArgument } from '../base/errors.ts';
import { isDigest } from '../base/digest.ts';

/** A normalized image reference. */
export interface ImageReference {
  /** Registry host and repository, `docker.io/library/alpine`. */
  readonly name: string;
  readonly tag?: string;
  readonly digest?: string;
}

const DEFAULT_DOMAIN = 'docker.io';
const OFFICIAL = 'library/';
const MAX_NAME_LENGTH = 255;
const COMPONENT = '[a-z0-9]+(?:(?:\\.|_|__|-+)[a-z0-9]+)*';
const HOST = '(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])';
const DOMAIN = `(?:${HOST}(?:\\.${HOST})*|\\[[a-fA-F0-9:]+\\])(?::[0-9]+)?`;
const NAME = `(?:${DOMAIN}/)?${COMPONENT}(?:/${COMPONENT})*`;
const DIGEST = '[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*[:][0-9a-fA-F]{32,}';
const REFERENCE = new RegExp(`^(${NAME})(?::(\\w[\\w.-]{0,127}))?(?:@(${DIGEST}))?$`);

/** Reads a reference as users write it: without a host it is one of Docker Hub's. */
export function parseReference(text: string): ImageReference {
  if (/^[a-f0-9]{64}$/.test(text))
    throw invalidArgument(`invalid repository name (${text}), cannot specify 64-byte hexadecimal strings`);
  const { domain, rest } = splitDomain(text);
  const repository = rest.split(':')[0] ?? '';
  if (repository !== repository.toLowerCase())
    throw invalidArgument(`invalid reference format: repository name (${repository}) must be lowercase`);
  const match = REFERENCE.exec(`${domain}/${rest}`);
  if (!match) throw invalidArgument('invalid reference format');
  const [, name = '', tag, digest] = match;
  if (name.slice(name.indexOf('/') + 1).length > MAX_NAME_LENGTH)
    throw invalidArgument(`repository name must not be more than ${MAX_NAME_LENGTH} characters`);
  if (digest !== undefined && !isDigest(digest)) throw invalidArgument('invalid checksum digest length');
  return { name, ...(tag === undefined ? {} : { tag }), ...(digest === undefined ? {} : { digest }) };
}

function splitDomain(text: string): { domain: string; rest: string } {
  const slash = text.indexOf('/');
  if (slash < 0) return { domain: DEFAULT_DOMAIN, rest: OFFICIAL + text };
  const first = text.slice(0, slash);
  const isDomain = first === 'localhost' || /[.:]/.test(first) || first !== first.toLowerCase();
  const domain = !isDomain || first === 'index.docker.io' ? DEFAULT_DOMAIN : first;
  const rest = isDomain ? text.slice(slash + 1) : text;
  return { domain, rest: domain === DEFAULT_DOMAIN && !rest.includes('/') ? OFFICIAL + rest : rest };
}

export function formatReference(reference: ImageReference): string {
  const tag = reference.tag === undefined ? '' : `:${reference.tag}`;
  return reference.name + tag + (reference.digest === undefined ? '' : `@${reference.digest}`);
}

/** With `:latest` when it has neither tag nor digest. */
export function withDefaultTag(reference: ImageReference): ImageReference {
  return reference.tag === undefined && reference.digest === undefined
    ? { ...reference, tag: 'latest' }
    : reference;
}

/** The short form that users write. */
export function familiarReference(reference: ImageReference): string {
  const prefix = `${DEFAULT_DOMAIN}/`;
  if (!reference.name.startsWith(prefix)) return formatReference(reference);
  const path = reference.name.slice(prefix.length);
  const short = path.startsWith(OFFICIAL) ? path.slice(OFFICIAL.length) : path;
  return formatReference({ ...reference, name: short.includes('/') ? path : short });
}
