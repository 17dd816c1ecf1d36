import type { Digest } from '../base/digest.ts';
import { BuildError, type ErrorDetail } from '../base/errors.ts';
import type { VertexLocation } from '../llb/parse.ts';
import { rangeJson, sourceInfoJson } from './definition-json.ts';

/** An error of a vertex with its digest and the source lines it came from (FEATURES E23). Told once. */
export function describeVertexError(
  error: unknown,
  digest: Digest,
  locations: readonly VertexLocation[],
): BuildError {
  const own = BuildError.from(error);
  if (own.details.some((detail) => 'type' in detail && detail.type === 'errdefs.Vertex')) return own;
  return own.with(...sourceDetails(locations), { type: 'errdefs.Vertex', value: { digest } });
}

function sourceDetails(locations: readonly VertexLocation[]): ErrorDetail[] {
  return locations.map(({ info, ranges }) => ({
    type: 'errdefs.Source',
    value: { info: sourceInfoJson(info), ranges: ranges.map(rangeJson) },
  }));
}
