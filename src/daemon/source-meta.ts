import { CURRENT_VERSION } from '../base/compatibility.ts';
import { digestOf } from '../base/digest.ts';
import { BuildError, Code } from '../base/errors.ts';
import type { ImmutableRef } from '../cache/ref.ts';
import type { SourceMeta, SourceMetaRequest } from '../frontend/bridge.ts';
import type { VertexSpec } from '../llb/parse.ts';
import { formatPlatform, hostPlatform, type Platform } from '../oci/platform.ts';
import type { Job } from '../solver/job.ts';
import { redactCredentials } from '../giturl/redact.ts';
import { GitSource } from '../source/git.ts';
import { gitSourceSpec } from '../source/git-spec.ts';
import { HttpSource } from '../source/http.ts';
import { httpSourceSpec } from '../source/http-spec.ts';
import { resolveAttestationChain } from '../source/attestation-chain.ts';
import type { ImageOrigin } from '../source/image-origin.ts';
import { imageSourceSpec } from '../source/image-spec.ts';
import { ociLayoutSpec } from '../source/oci-layout.ts';
import type { Worker } from './worker.ts';

const IMAGE = 'docker-image://';
const LAYOUT = 'oci-layout://';
const SELF_EVIDENT = /^(?:local|docker-image\+blob|oci-layout\+blob):\/\//;
const GIT = 'git://';

/** What a source is, without its content (FEATURES I11, I12), as a step of its own. */
export async function resolveSourceMeta(
  request: SourceMetaRequest,
  job: Job<VertexSpec, ImmutableRef>,
  worker: Worker,
  signal: AbortSignal,
): Promise<SourceMeta> {
  const { identifier } = request.source;
  if (/^https?:/.test(identifier)) return resolveHttp(request, job, worker, signal);
  if (identifier.startsWith(IMAGE) || identifier.startsWith(LAYOUT))
    return resolveImage(request, job, worker, signal);
  if (identifier.startsWith(GIT)) return resolveGit(request, job, worker, signal);
  if (SELF_EVIDENT.test(identifier)) return resolveNothing(request, job, worker);
  throw new BuildError(`resolving metadata of ${identifier} is not supported yet`, {
    code: Code.unimplemented,
  });
}

async function resolveImage(
  request: SourceMetaRequest,
  job: Job<VertexSpec, ImmutableRef>,
  worker: Worker,
  signal: AbortSignal,
): Promise<SourceMeta> {
  const { origin, platform } = originOf(request, job, worker);
  const { name } = origin;
  const { identifier } = request.source;
  const scheme = identifier.slice(0, identifier.indexOf('://') + 3);
  const title = request.logName || `resolve image config for ${scheme}${name}`;
  const id = digestOf(`${title}\0${name}\0${formatPlatform(platform)}`);
  return job.step(id, title, async () => {
    const found = await worker.sources.images.resolve(origin, platform, signal);
    const types = request.attestations?.predicateTypes;
    const chain = types && (await resolveAttestationChain(origin, platform, types, signal));
    const config = request.noConfig ? new Uint8Array() : found.configBytes;
    return {
      source: request.source,
      image: { digest: found.root.digest, config, ...(chain ? { chain } : {}) },
    };
  });
}

function originOf(
  request: SourceMetaRequest,
  job: Job<VertexSpec, ImmutableRef>,
  worker: Worker,
): { origin: ImageOrigin; platform: Platform } {
  const { identifier, attrs } = request.source;
  const { origins } = worker.sources;
  const sessions = () => job.sessions;
  if (identifier.startsWith(LAYOUT)) {
    const spec = ociLayoutSpec(identifier.slice(LAYOUT.length), attrs, request.platform);
    return { origin: origins.layout(spec.reference, spec.place, sessions), platform: spec.platform };
  }
  const wanted = { ...attrs, ...(request.resolveMode ? { 'image.resolvemode': request.resolveMode } : {}) };
  const spec = imageSourceSpec(identifier.slice(IMAGE.length), wanted, request.platform);
  return { origin: origins.registry(spec.reference, sessions), platform: spec.platform };
}

/** Sources that say themselves all that can be known of them; a step tells that somebody asked. */
async function resolveNothing(
  { source, logName, platform }: SourceMetaRequest,
  job: Job<VertexSpec, ImmutableRef>,
  worker: Worker,
): Promise<SourceMeta> {
  worker.sources.resolve(source, { platform: platform ?? hostPlatform(), version: CURRENT_VERSION }); // refuses what makes no sense
  const title = logName || `resolve metadata for ${source.identifier}`;
  await job.step(digestOf(`${title}\0${source.identifier}`), title, async () => {});
  return { source };
}

async function resolveHttp(
  request: SourceMetaRequest,
  job: Job<VertexSpec, ImmutableRef>,
  worker: Worker,
  signal: AbortSignal,
): Promise<SourceMeta> {
  const { source: asked, httpChecksum } = request;
  const { identifier, attrs } = asked;
  const source = new HttpSource(httpSourceSpec(identifier, attrs), worker.sources.http);
  const title = request.logName || `resolve metadata for ${identifier}`;
  const context = { signal, sessions: () => job.sessions };
  return job.step(digestOf(`${title}\0${identifier}`), title, async () => {
    const { digest, filename, lastModified } = await source.metadata(context);
    const found = { checksum: digest, filename, ...(lastModified ? { lastModified } : {}) };
    if (!httpChecksum) return { source: asked, http: found };
    const { algorithm, suffix } = httpChecksum;
    const withSuffix = { digest: await source.checksum(algorithm, suffix, context), suffix };
    return { source: asked, http: { ...found, withSuffix } };
  });
}

async function resolveGit(
  request: SourceMetaRequest,
  job: Job<VertexSpec, ImmutableRef>,
  worker: Worker,
  signal: AbortSignal,
): Promise<SourceMeta> {
  const { identifier, attrs } = request.source;
  const source = new GitSource(gitSourceSpec(identifier.slice(GIT.length), attrs), worker.sources.git);
  const title = request.logName || `resolve metadata for ${redactCredentials(identifier)}`;
  const id = digestOf(`${title}\0${identifier}`);
  const objects = request.gitObjects ?? false;
  const git = await job.step(id, title, (progress) =>
    source.metadata({ objects }, { signal, progress, sessions: () => job.sessions }),
  );
  return { source: request.source, git };
}
