import { BuildError, Code, hasCode } from '../base/errors.ts';
import type { ImmutableRef } from '../cache/ref.ts';
import type { Descriptor } from '../oci/descriptor.ts';
import type { CacheTrace } from '../solver/job.ts';
import { type LoadContext, recordsIn } from '../solver/sources.ts';

/** Layers of the newest kept result of `keys`, bottom up; undefined when it has none yet. Nothing is made. */
export async function readyLayers(
  keys: readonly string[],
  { sources }: Pick<CacheTrace<ImmutableRef>, 'sources'>,
  lease: string,
  context: LoadContext,
): Promise<readonly Descriptor[] | undefined> {
  const [record] = recordsIn(sources, keys);
  if (!record) return undefined;
  let ref: ImmutableRef | undefined;
  try {
    ref = await record.source.results.load(record.resultId, {
      ...context,
      brief: true,
      peek: true,
    });
    const compression = { type: 'gzip', force: false } as const;
    return await ref.ensureBlobs({ compression, lease, create: false }, { signal: context.signal });
  } catch (error) {
    context.signal.throwIfAborted();
    // Not made yet, gone, or a layer of an imported cache that says too little of itself.
    if (hasCode(error, Code.notFound) || hasCode(error, Code.invalidArgument)) return undefined;
    throw BuildError.wrap(error, 'failed to find layers');
  } finally {
    await ref?.release();
  }
}
