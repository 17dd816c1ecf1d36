import { digestOf } from '../base/digest.ts';
import { BuildError, Code } from '../base/errors.ts';
import type { ImmutableRef } from '../cache/ref.ts';
import type { SourceMeta, SourceMetaRequest } from '../frontend/bridge.ts';
import type { VertexSpec } from '../llb/parse.ts';
import { formatPlatform } from '../oci/platform.ts';
import { formatReference } from '../oci/reference.ts';
import type { Job } from '../solver/job.ts';
import { HttpSource } from '../source/http.ts';
import { httpSourceSpec } from '../source/http-spec.ts';
import { imageSourceSpec } from '../source/image-spec.ts';
import { oneOff } from '../source/progress.ts';
import type { Worker } from './worker.ts';

const IMAGE = 'docker-image://';

/** What a source is, without its content (FEATURES I11, I12), as a step of its own. */
export async function resolveSourceMeta(
  request: SourceMetaRequest,
  job: Job<VertexSpec, ImmutableRef>,
  worker: Worker,
  signal: AbortSignal,
): Promise<SourceMeta> {
  const { identifier, attrs } = request.source;
  if (/^https?:/.test(identifier)) return resolveHttp(request, job, worker, signal);
  if (!identifier.startsWith(IMAGE)) {
    throw new BuildError(`resolving metadata of ${identifier} is not supported yet`, {
      code: Code.unimplemented,
    });
  }
  const wanted = { ...attrs, ...(request.resolveMode ? { 'image.resolvemode': request.resolveMode } : {}) };
  const spec = imageSourceSpec(identifier.slice(IMAGE.length), wanted, request.platform);
  const name = formatReference(spec.reference);
  const title = request.logName || `resolve image config for ${IMAGE}${name}`;
  const id = digestOf(`${title}\0${name}\0${formatPlatform(spec.platform)}`);
  const memo = worker.sources.imageMemo(job.sessions);
  const image = await job.step(id, title, (progress) =>
    oneOff(progress, `resolve ${name}`, () =>
      worker.sources.images.resolve(spec.reference, spec.platform, {
        signal,
        credentials: worker.sources.credentials.of(() => job.sessions),
        ...(memo ? { memo } : {}),
      }),
    ),
  );
  return {
    source: request.source,
    image: { digest: image.root.digest, config: request.noConfig ? new Uint8Array() : image.configBytes },
  };
}

async function resolveHttp(
  request: SourceMetaRequest,
  job: Job<VertexSpec, ImmutableRef>,
  worker: Worker,
  signal: AbortSignal,
): Promise<SourceMeta> {
  const { identifier, attrs } = request.source;
  const source = new HttpSource(httpSourceSpec(identifier, attrs), worker.sources.http);
  const title = request.logName || `resolve metadata for ${identifier}`;
  const { digest, filename, lastModified } = await job.step(digestOf(`${title}\0${identifier}`), title, () =>
    source.metadata({ signal, sessions: () => job.sessions }),
  );
  return {
    source: request.source,
    http: { checksum: digest, filename, ...(lastModified ? { lastModified } : {}) },
  };
}
