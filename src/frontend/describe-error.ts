import type { Digest } from '../base/digest.ts';
import { BuildError, type ErrorDetail } from '../base/errors.ts';
import type { VertexLocation } from '../llb/parse.ts';
import { definitionJson } from './definition-json.ts';

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
  return locations.map(({ info, ranges }) => {
    const value = {
      info: {
        filename: info.filename,
        data: Buffer.from(info.data).toString('base64'),
        ...(info.definition ? { definition: definitionJson(info.definition) } : {}),
        ...(info.language === '' ? {} : { language: info.language }),
      },
      ranges: ranges.map(({ start, end }) => ({ start: position(start), end: position(end) })),
    };
    return { type: 'errdefs.Source', value };
  });
}

/** Zeros are left out, as Go's encoder does. */
function position(at: { line: number; character: number } | undefined): {
  line?: number;
  character?: number;
} {
  return {
    ...(at?.line ? { line: at.line } : {}),
    ...(at?.character ? { character: at.character } : {}),
  };
}
