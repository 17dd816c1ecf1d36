import { invalidArgument } from '../base/errors.ts';

const NAME = /^[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:\/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*$/;
const DOMAIN =
  /^(?:(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])(?:\.(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9]))*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?$/;
const TAG = /^\w[\w.-]{0,127}$/;
const DIGEST = /^[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}$/;

/** Full spelling of an image name: with domain, and with tag `latest` when it has neither tag nor digest. */
export function normalizeReference(text: string): string {
  const invalid = (): Error => invalidArgument(`invalid reference format: ${text}`);
  if (/^[a-f0-9]{64}$/.test(text)) {
    throw invalidArgument(`invalid repository name (${text}), cannot specify 64-byte hexadecimal strings`);
  }
  const at = text.indexOf('@');
  const digest = at < 0 ? '' : text.slice(at);
  let name = at < 0 ? text : text.slice(0, at);
  const colon = name.lastIndexOf(':');
  let tag = '';
  if (colon > name.lastIndexOf('/')) {
    tag = name.slice(colon);
    name = name.slice(0, colon);
  }
  const [domain, path] = splitDomain(name);
  if (!DOMAIN.test(domain) || !NAME.test(path) || domain.length + path.length > 255) throw invalid();
  if (tag !== '' && !TAG.test(tag.slice(1))) throw invalid();
  if (digest !== '' && !DIGEST.test(digest.slice(1))) throw invalid();
  return `${domain}/${path}${tag === '' && digest === '' ? ':latest' : tag}${digest}`;
}

function splitDomain(name: string): [domain: string, path: string] {
  const slash = name.indexOf('/');
  const first = slash < 0 ? '' : name.slice(0, slash);
  const isDomain = first === 'localhost' || /[.:]/.test(first) || first !== first.toLowerCase();
  const domain = isDomain && first !== 'index.docker.io' ? first : 'docker.io';
  const path = isDomain ? name.slice(slash + 1) : name;
  return [domain, domain === 'docker.io' && !path.includes('/') ? `library/${path}` : path];
}
