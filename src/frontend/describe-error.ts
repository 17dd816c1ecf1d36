import type { Digest } from '../base/digest.ts';
import { BuildError, type ErrorDetail } from '../base/errors.ts';
import type { Source } from '../llb/ops.ts';

/** An error of a vertex with its digest and the source lines it came from (FEATURES E23). Told once. */
export function describeVertexError(error: unknown, digest: Digest, source: Source | undefined): BuildError {
  const own = BuildError.from(error);
  if (own.details.some((detail) => 'type' in detail && detail.type === 'errdefs.Vertex')) return own;
  return own.with(...sourceDetails(source, digest), { type: 'errdefs.Vertex', value: { digest } });
}

function sourceDetails(source: Source | undefined, digest: Digest): ErrorDetail[] {
  const locations = source?.locations[digest]?.locations ?? [];
  return locations.flatMap(({ sourceIndex, ranges }) => {
    const info = source?.infos[sourceIndex];
    if (!info) return [];
    const value = {
      info: {
        filename: info.filename,
        data: Buffer.from(info.data).toString('base64'),
        ...(info.language === '' ? {} : { language: info.language }),
      },
      ranges: ranges.map(({ start, end }) => ({ start: position(start), end: position(end) })),
    };
    return [{ type: 'errdefs.Source', value }];
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
