import { BuildError } from '../base/errors.ts';
import { platformToMessage } from '../llb/platform.ts';
import { parsePlatform } from '../oci/platform.ts';
import type { ResolveSourceMetaResponse } from '../pb/gateway.ts';
import type { ReferenceCalls } from './reference.ts';
import type { ResolvedSource, ResolveImageOptions, ResolveSourceOptions, SourceIdentifier } from './types.ts';

export function platformMessage(
  platform: ResolveImageOptions['platform'],
): ReturnType<typeof platformToMessage> | undefined {
  if (platform === undefined) return undefined;
  return platformToMessage(typeof platform === 'string' ? parsePlatform(platform) : platform);
}

/** Looks a source up (FEATURES I12). @throws BuildError */
export async function resolveSource(
  { bridge, caps, callOptions }: ReferenceCalls,
  { identifier, attrs }: SourceIdentifier,
  options: ResolveSourceOptions,
): Promise<ResolvedSource> {
  caps.need('source.metaresolver');
  const isImage = /^(?:docker-image|oci-layout):\/\//.test(identifier);
  const response = await bridge.resolveSourceMeta(
    {
      Source: { identifier, attrs: { ...attrs } },
      Platform: platformMessage(options.platform),
      LogName: options.logName ?? '',
      ResolveMode: options.resolveMode ?? '',
      Git: options.gitObjects ? { ReturnObject: true } : undefined,
      Image: isImage ? { NoConfig: false, AttestationChain: false, ResolveAttestations: [] } : undefined,
      HTTP: undefined,
      SourcePolicies: [],
    },
    callOptions(options),
  );
  const { Source, Image, Git, HTTP } = response;
  if (!Source) throw new BuildError(`failed to resolve ${identifier}: the daemon's answer names no source`);
  return {
    source: { identifier: Source.identifier, attrs: Source.attrs },
    ...(Image && { image: { digest: Image.Digest, config: Image.Config } }),
    ...(Git && { git: commitFromWire(Git) }),
    ...(HTTP && { http: downloadFromWire(HTTP) }),
  };
}

type Messages = Pick<ResolveSourceMetaResponse, 'Git' | 'HTTP'>;

/** A commit that was looked up. */
export function commitFromWire(message: NonNullable<Messages['Git']>): NonNullable<ResolvedSource['git']> {
  const { Ref, Checksum, CommitChecksum, CommitObject, TagObject } = message;
  return {
    ref: Ref,
    checksum: Checksum,
    commitChecksum: CommitChecksum,
    ...(CommitObject.length > 0 ? { commitObject: CommitObject } : {}),
    ...(TagObject.length > 0 ? { tagObject: TagObject } : {}),
  };
}

/** A file of the web that was looked up. */
export function downloadFromWire(
  message: NonNullable<Messages['HTTP']>,
): NonNullable<ResolvedSource['http']> {
  const { Checksum, Filename, LastModified } = message;
  return {
    digest: Checksum,
    filename: Filename,
    lastModified: LastModified && new Date(Number(LastModified.seconds) * 1000),
  };
}
