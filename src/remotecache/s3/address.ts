import { isIP } from 'node:net';
import { BuildError } from '../../base/errors.ts';
import { encodePart, encodePath } from './sigv4.ts';

/** DNS suffixes of AWS's partitions, by the first part of their regions; all others are `amazonaws.com`. */
const SUFFIXES: readonly (readonly [RegExp, string])[] = [
  [/^cn-/, 'amazonaws.com.cn'],
  [/^us-isob-/, 'sc2s.sgov.gov'],
  [/^us-iso-/, 'c2s.ic.gov'],
  [/^eusc-/, 'amazonaws.eu'],
];
/** A bucket that can be the first part of a host name with a certificate. */
const HOST_LABEL = /^[a-z0-9][a-z0-9-]{1,61}[a-z0-9]$/;

/** Host of a service of AWS in a region. */
export function awsHost(service: string, region: string): string {
  const suffix = SUFFIXES.find(([pattern]) => pattern.test(region))?.[1] ?? 'amazonaws.com';
  return `${service}.${region}.${suffix}`;
}

export interface Bucket {
  readonly bucket: string;
  readonly region: string;
  /** '' for AWS itself. */
  readonly endpointUrl: string;
  readonly usePathStyle: boolean;
}

/** Makes addresses of a bucket's objects. @throws BuildError for an endpoint that is no address */
export function objectAddress({
  bucket,
  region,
  endpointUrl,
  usePathStyle,
}: Bucket): (key: string, query?: Readonly<Record<string, string>>) => URL {
  if (bucket === '') throw new BuildError('bucket is empty for s3 cache');
  const endpoint = endpointOf(endpointUrl || `https://${awsHost('s3', region)}`);
  const plainHost = isIP(endpoint.hostname.replace(/^\[|\]$/g, '')) !== 0;
  const inPath = usePathStyle || plainHost || !HOST_LABEL.test(bucket);
  const host = inPath ? endpoint.host : `${bucket}.${endpoint.host}`;
  const folder = endpoint.pathname.replace(/\/$/, '') + (inPath ? `/${encodePart(bucket)}` : '');
  return (key, query = {}) => {
    const path = `${folder}/${encodePath(key)}`;
    const pairs = Object.entries(query).map(([name, value]) => `${encodePart(name)}=${encodePart(value)}`);
    const url = new URL(
      `${endpoint.protocol}//${host}${path}${pairs.length > 0 ? `?${pairs.join('&')}` : ''}`,
    );
    // Parts like `..` would be gone: the object would be another.
    if (url.pathname !== path) throw new BuildError(`${JSON.stringify(key)} cannot be the name of an object`);
    return url;
  };
}

function endpointOf(text: string): URL {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (url?.protocol !== 'http:' && url?.protocol !== 'https:')
    throw new BuildError(`endpoint_url of s3 cache is no http address: ${JSON.stringify(text)}`);
  return url;
}
