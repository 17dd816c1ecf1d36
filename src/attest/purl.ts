import { formatPlatform, normalizePlatform, type Platform } from '../oci/platform.ts';
import { familiarName, parseReference, withDefaultTag } from '../oci/reference.ts';

/** Kinds of package addresses: an image of a registry, or of a layout. */
export type PurlType = 'docker' | 'oci';

export interface PurlOptions {
  readonly platform?: Platform | undefined;
  /** Added after the digest and platform, in this order. */
  readonly qualifiers?: Readonly<Record<string, string>>;
}

/** The package address of an image reference (FEATURES J38). @throws BuildError for what is no reference */
export function imagePurl(type: PurlType, ref: string, options: PurlOptions = {}): string {
  const reference = withDefaultTag(parseReference(ref));
  const { digest, tag } = reference;
  const platform = options.platform && formatPlatform(normalizePlatform(options.platform));
  const qualifiers = Object.entries({
    ...(digest === undefined ? {} : { digest }),
    ...(platform === undefined ? {} : { platform }),
    ...options.qualifiers,
  });
  const name = familiarName(reference).split('/').map(queryEscape).join('/');
  const version = tag === undefined ? '' : `@${tag}`;
  const query = qualifiers.map(([key, value]) => `${key}=${pathEscape(value)}`).join('&');
  return `pkg:${type}/${name}${version}${query === '' ? '' : `?${query}`}`;
}

/** As Go escapes a value of a query. */
function queryEscape(text: string): string {
  return encodeURIComponent(text)
    .replace(/[!'()*]/g, (c) => `%${c.charCodeAt(0).toString(16).toUpperCase()}`)
    .replaceAll('%20', '+');
}

/** As Go escapes one segment of a path. */
function pathEscape(text: string): string {
  return encodeURIComponent(text)
    .replace(/[!'()*]/g, (c) => `%${c.charCodeAt(0).toString(16).toUpperCase()}`)
    .replace(/%(?:24|26|2B|3A|3D|40)/g, (code) => decodeURIComponent(code));
}
