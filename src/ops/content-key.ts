import { posix } from 'node:path';
import type { Digest } from '../base/digest.ts';
import { BuildError } from '../base/errors.ts';
import { type ContentSelector, selectPath } from '../cache/content-selector.ts';
import type { ImmutableRef, RefMounts } from '../cache/ref.ts';
import type { CacheDep, CacheMap } from '../solver/types.ts';
import { FailedStep } from './failed-step.ts';
import type { KeyDep } from './selector-key.ts';

export interface ContentKeyServices {
  /** One digest for all selectors together (FEATURES E14). */
  readonly hash: (
    input: ImmutableRef,
    dir: string,
    selectors: readonly ContentSelector[],
    signal: AbortSignal,
  ) => Promise<Digest>;
  /** May look at a tree that was hashed for a while longer; `release` is called when it has. */
  readonly keep?: (look: ContentLook, release: () => Promise<void>) => boolean;
  readonly mountLocally: (view: RefMounts) => Promise<{ readonly path: string; release(): Promise<void> }>;
  readonly progress: (reporter: Parameters<NonNullable<CacheDep<ImmutableRef>['preprocess']>>[1]) => {
    readonly signal: AbortSignal;
  };
}

/** A tree whose selected content has the digest `digest`. */
export interface ContentLook {
  readonly digest: Digest;
  readonly input: ImmutableRef;
  /** Where it is mounted. */
  readonly dir: string;
  readonly selectors: readonly ContentSelector[];
  /** The vertex that asked. */
  readonly vertex: Digest;
}

const WHOLE_TREE = selectPath('/', false);

/** The cache map of a step from its digest and what it says of its inputs. */
export function cacheMapOf(
  digest: Digest,
  deps: readonly KeyDep[],
  services: ContentKeyServices,
): CacheMap<ImmutableRef> {
  return { digest, deps: deps.map((dep, index) => cacheDep(dep, index, services)) };
}

function cacheDep(dep: KeyDep, index: number, services: ContentKeyServices): CacheDep<ImmutableRef> {
  const preprocess: CacheDep<ImmutableRef>['preprocess'] = (input, context) =>
    input.extract(services.progress(context));
  if (!dep.content) return { selector: dep.selector, preprocess };
  const selectors: readonly ContentSelector[] = dep.content.length > 0 ? dep.content : [WHOLE_TREE];
  return {
    selector: dep.selector,
    preprocess,
    contentKey: async (input, context) => {
      const tree = await services.mountLocally(await input.mount(true, { signal: context.signal }));
      const absolutes = selectors.map(absolute);
      let kept = false;
      try {
        const digest = await services.hash(input, tree.path, absolutes, context.signal);
        const look = { digest, input, dir: tree.path, selectors: absolutes, vertex: context.vertex };
        kept = services.keep?.(look, () => tree.release()) ?? false;
        return digest;
      } catch (error) {
        context.signal.throwIfAborted();
        context.keeper?.()?.(new FailedStep([input.clone()], [], { kind: 'cache', index }));
        throw BuildError.wrap(error, `failed to calculate checksum of ref ${input.id}`);
      } finally {
        if (!kept) await tree.release();
      }
    },
  };
}

/** Clean and absolute; only the root keeps a slash at its end. */
function absolute(selector: ContentSelector): ContentSelector {
  const path = posix.join('/', selector.path);
  return { ...selector, path: path === '/' ? path : path.replace(/\/$/, '') };
}
