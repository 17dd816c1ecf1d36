import { invalidArgument } from '../base/errors.ts';
import { commitFromWire, downloadFromWire } from '../gateway/sources.ts';
import { platformFromMessage, platformToMessage } from '../llb/platform.ts';
import { ChecksumRequest_ChecksumAlgo as Algorithm, type ResolveSourceMetaRequest } from '../pb/gateway.ts';
import type { CheckPolicyRequest, CheckPolicyResponse } from '../pb/policysession.ts';
import { PolicyAction } from '../pb/sourcepolicy.ts';
import type { SourceDecision, SourceImage, SourceLookUp, SourceQuestion } from './source-question-types.ts';

const IS_IMAGE = /^(?:docker-image|oci-layout):\/\//;
const ALGORITHMS = {
  sha256: Algorithm.CHECKSUM_ALGO_SHA256,
  sha384: Algorithm.CHECKSUM_ALGO_SHA384,
  sha512: Algorithm.CHECKSUM_ALGO_SHA512,
} as const;

/** The question of a daemon as users see it. */
export function questionFromWire(request: CheckPolicyRequest, signal: AbortSignal): SourceQuestion {
  const { Source, Image, Git, HTTP } = request.Source ?? {};
  return {
    source: { identifier: Source?.identifier ?? '', attrs: Source?.attrs ?? {} },
    platform: request.Platform && platformFromMessage(request.Platform),
    ...(Image && { image: imageFromWire(Image) }),
    ...(Git && { git: commitFromWire(Git) }),
    ...(HTTP && {
      http: {
        ...downloadFromWire(HTTP),
        ...(HTTP.ChecksumResponse && {
          checksum: { digest: HTTP.ChecksumResponse.Digest, suffix: HTTP.ChecksumResponse.Suffix },
        }),
      },
    }),
    signal,
  };
}

type ImageMessage = NonNullable<NonNullable<CheckPolicyRequest['Source']>['Image']>;

function imageFromWire({ Digest, Config, AttestationChain: chain }: ImageMessage): SourceImage {
  return {
    digest: Digest,
    config: Config,
    ...(chain && {
      attestationChain: {
        root: chain.Root,
        imageManifest: chain.ImageManifest,
        attestationManifest: chain.AttestationManifest,
        signatureManifests: chain.SignatureManifests,
        blobs: Object.fromEntries(Object.entries(chain.Blobs).map(([digest, { data }]) => [digest, data])),
      },
    }),
  };
}

/** @throws BuildError for what is no decision */
export function decisionToWire(decision: SourceDecision, request: CheckPolicyRequest): CheckPolicyResponse {
  const decided = (
    action: PolicyAction,
    messages: readonly string[] = [],
    update?: { identifier: string; attrs: Record<string, string> },
  ): CheckPolicyResponse => ({
    result: {
      $case: 'decision',
      value: { action, denyMessages: messages.map((message) => ({ message })), update },
    },
  });
  if (decision === 'allow') return decided(PolicyAction.ALLOW);
  if (decision === 'deny') return decided(PolicyAction.DENY);
  if (typeof decision === 'object' && decision !== null) {
    if ('deny' in decision) return decided(PolicyAction.DENY, decision.deny);
    if ('convert' in decision) {
      const { identifier, attrs } = decision.convert;
      return decided(PolicyAction.CONVERT, [], { identifier, attrs: { ...attrs } });
    }
    if ('lookUp' in decision)
      return { result: { $case: 'request', value: lookUpToWire(decision.lookUp, request) } };
  }
  throw invalidArgument(
    `${JSON.stringify(decision)} decides nothing about a source: 'allow', 'deny', { deny }, { convert } or { lookUp } is meant`,
  );
}

function lookUpToWire(
  lookUp: SourceLookUp,
  { Source, Platform }: CheckPolicyRequest,
): ResolveSourceMetaRequest {
  const { platform, attestations, httpChecksum } = lookUp;
  return {
    Source: Source?.Source,
    Platform: platform ? platformToMessage(platform) : Platform,
    LogName: lookUp.logName ?? '',
    ResolveMode: lookUp.resolveMode ?? '',
    Git: lookUp.gitObjects ? { ReturnObject: true } : undefined,
    Image: IS_IMAGE.test(Source?.Source?.identifier ?? '')
      ? {
          NoConfig: lookUp.noConfig ?? false,
          AttestationChain: attestations !== undefined,
          ResolveAttestations: attestations === true ? [] : [...(attestations ?? [])],
        }
      : undefined,
    HTTP: httpChecksum && {
      ChecksumRequest: {
        Algo: ALGORITHMS[httpChecksum.algorithm],
        Suffix: httpChecksum.suffix ?? new Uint8Array(),
      },
    },
    SourcePolicies: [],
  };
}
