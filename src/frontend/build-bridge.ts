import { BuildError } from '../base/errors.ts';
import type { ConvertOptions, ResolvedImage, ResolveImageOptions } from '../dockerfile/convert/options.ts';
import type { Definition, SourceOp } from '../llb/ops.ts';
import type { Platform } from '../oci/platform.ts';
import type { VertexWarning } from '../solver/types.ts';
import type { CacheImport, SourceMeta } from './bridge.ts';
import type { FrontendResult } from './result.ts';

/** A solved tree as the frontend sees it. `value` goes into the result. */
export interface BuildRef<R> {
  readonly value: R;
  /** @throws {BuildError} `open PATH: no such file or directory` */
  readFile(path: string, range?: { readonly offset: number; readonly length: number }): Promise<Uint8Array>;
  /** Seconds since 1970 of the newest file in the archive at `path`; undefined for what is no archive. */
  newestIn(path: string): Promise<number | undefined>;
}

/** All that the Dockerfile frontend needs of a running build. */
export interface FrontendBridge<R> {
  readonly options: ReadonlyMap<string, string>;
  readonly sessionId: string;
  /** Platforms of the worker, its own first. */
  readonly workerPlatforms: readonly Platform[];
  /** LLB capabilities that the daemon serves. */
  readonly caps: NonNullable<ConvertOptions['caps']>;
  readonly inputs: Readonly<Record<string, Definition>>;
  /** Aborts when nobody wants the build any more. */
  readonly signal: AbortSignal;
  /** null is the empty tree. Solving starts when the tree is first used, or with `evaluate` at once. */
  solve(
    definition: Definition,
    cacheImports: readonly CacheImport[],
    options?: { readonly evaluate?: boolean },
  ): Promise<BuildRef<R> | null>;
  /** @throws {NoImage} when a policy has put something else in the image's place */
  resolveImage(ref: string, options: ResolveImageOptions): Promise<ResolvedImage>;
  /** An image in a layout of the client; `ref` has a digest. */
  resolveLayout(ref: string, store: LayoutStore, options: ResolveLayoutOptions): Promise<ResolvedImage>;
  /** What any source is, without its content; `logName` is the name of the step. */
  describeSource(source: SourceOp, logName: string): Promise<SourceMeta>;
  warn(warning: VertexWarning): void;
  /** Repositories of frontend images that this frontend stands in for. */
  readonly served: readonly string[];
  /** Lets another frontend build, from the same inputs. */
  runFrontend(name: string, options: Readonly<Record<string, string>>): Promise<FrontendResult<R>>;
}

export interface LayoutStore {
  readonly sessionId: string;
  readonly storeId: string;
}

export type ResolveLayoutOptions = Pick<ResolveImageOptions, 'logName' | 'signal'> & {
  /** Default: the worker's. */
  readonly platform?: Platform;
};

/** Of identifiers of images. */
export const IMAGE_SCHEME = 'docker-image://';
/** Of those of images in a layout of the client. */
export const LAYOUT_SCHEME = 'oci-layout://';

/** What was asked for as an image is to come from elsewhere. */
export class NoImage extends BuildError {
  readonly identifier: string;

  constructor(ref: string, identifier: string) {
    super(`ref mutated by policy to non-image: ${IMAGE_SCHEME}${ref} -> ${identifier}`);
    this.identifier = identifier;
  }
}
