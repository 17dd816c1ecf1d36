import type { Digest } from '../../base/digest.ts';
import type { BlobProvider } from '../../cache/ref.ts';

/** Asks a store for each blob until it has once been there. */
export function askingOnce(
  isThere: (digest: Digest, signal: AbortSignal) => Promise<boolean>,
): NonNullable<BlobProvider['has']> {
  const known = new Set<Digest>();
  return async ({ digest }, { signal }) => {
    if (known.has(digest)) return true;
    const there = await isThere(digest, signal);
    if (there) known.add(digest);
    return there;
  };
}
