import { posix } from 'node:path';
import type { Digest } from '../../base/digest.ts';
import { BuildError } from '../../base/errors.ts';

/** Where a cache is in Azure's storage and how it is reached (FEATURES K19). */
export interface AzblobConfig {
  readonly accountUrl: URL;
  readonly accountName: string;
  /** '' when the daemon is to find a token. */
  readonly accountKey: string;
  readonly container: string;
  readonly names: readonly string[];
  /** Names of blobs (FEATURES K20). */
  readonly manifestKey: (name: string) => string;
  readonly blobKey: (digest: Digest) => string;
}

type Values = Readonly<Record<string, string | undefined>>;

/** @throws BuildError, in upstream's words where it has some */
export function parseAzblobAttrs(attrs: Values, env: Values): AzblobConfig {
  const text = attrs.account_url ?? env.BUILDKIT_AZURE_STORAGE_ACCOUNT_URL;
  if (text === undefined)
    throw new BuildError(
      'either ${BUILDKIT_AZURE_STORAGE_ACCOUNT_URL} or account_url attribute is required for azblob cache',
    );
  const accountUrl = addressOf(text);
  const accountName =
    attrs.account_name ??
    env.BUILDKIT_AZURE_STORAGE_ACCOUNT_NAME ??
    accountUrl.hostname.split('.', 1)[0] ??
    '';
  if (accountName === '')
    throw new BuildError(
      'unable to retrieve account name from account url or ${BUILDKIT_AZURE_STORAGE_ACCOUNT_NAME} or account_name attribute for azblob cache',
    );
  const prefix = attrs.prefix ?? env.BUILDKIT_AZURE_STORAGE_PREFIX ?? '';
  const below = (folder: string) => (name: string) => posix.join(prefix, folder, name);
  return {
    accountUrl,
    accountName,
    accountKey: attrs.secret_access_key ?? '',
    container: attrs.container ?? env.BUILDKIT_AZURE_STORAGE_CONTAINER ?? 'buildkit-cache',
    names: (attrs.name ?? 'buildkit').split(';'),
    manifestKey: below(attrs.manifests_prefix ?? 'manifests'),
    blobKey: below(attrs.blobs_prefix ?? 'blobs'),
  };
}

/** Secrets in it would end up where addresses are shown. */
function addressOf(text: string): URL {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (url?.protocol !== 'http:' && url?.protocol !== 'https:')
    throw new BuildError('azure storage account url provided is not a valid url');
  if (url.search !== '' || url.username !== '' || url.password !== '')
    throw new BuildError(
      'azure storage account url provided has a query, user or password: give secret_access_key, or let the daemon find a token',
    );
  return url;
}
