import { type CompatibilityVersion, CURRENT_VERSION, hasWritableCheckouts } from '../base/compatibility.ts';
import { type Digest, digestOf } from '../base/digest.ts';
import { BuildError } from '../base/errors.ts';
import type { Platform } from '../oci/platform.ts';
import type { EdgeRef, SourceRange, Vertex, VertexOptions } from '../solver/types.ts';
import { checkCap } from './caps.ts';
import { CUSTOM_NAME, emptyMetadata } from './metadata.ts';
import { opName } from './names.ts';
import { type Definition, Op, type OpMetadata, type Source, type SourceInfo } from './ops.ts';
import { hostPlatform, normalizePlatform, platformFromMessage } from './platform.ts';
import { validateOp } from './validate.ts';

/** Vertexes of one definition, at most. */
const MAX_VERTEXES = 100_000;

/** What the ops are made from. */
export interface VertexSpec {
  readonly op: Op;
  /** Normalized; the default one when the op names none. */
  readonly platform: Platform;
  readonly metadata: OpMetadata;
  readonly version: CompatibilityVersion;
  /** Where the vertex stands in the user's files, for error snippets. */
  readonly locations: readonly VertexLocation[];
  /** Parses a definition that the vertex has found, under the rules of the one that it belongs to. */
  readonly parse: (definition: Definition) => EdgeRef<VertexSpec>;
}

export interface VertexLocation {
  readonly info: SourceInfo;
  readonly ranges: readonly SourceRange[];
}

export interface ParseOptions {
  /** Of ops that name none; this machine's when absent. */
  readonly defaultPlatform?: Platform;
  /** Which bytes sources give; the current ones when absent. */
  readonly version?: CompatibilityVersion;
  /** LLB capabilities that vertexes may ask for; all that are served when absent. */
  readonly caps?: ReadonlySet<string>;
  /** Sees every vertex that is needed, after its inputs, and may refuse it by throwing. */
  readonly check?: (vertex: Vertex<VertexSpec>) => void;
}

interface Entry {
  readonly op: Op;
  readonly metadata: OpMetadata;
}

/**
 * The graph of a definition and the output asked for (FEATURES D1, D2, D22). A vertex's digest is the sha256 of its bytes as they came.
 * @throws BuildError with the texts that clients know.
 */
export function parseDefinition(definition: Definition, options: ParseOptions = {}): EdgeRef<VertexSpec> {
  const { entries, last } = decodeEntries(definition);
  const lastEntry = entries.get(last);
  const target = lastEntry?.op.inputs[0];
  entries.delete(last);
  if (!target) throw new BuildError('invalid LLB with no inputs on last vertex');
  const builder = new GraphBuilder(entries, definition.Source, options);
  return { vertex: builder.build(target.digest as Digest), index: Number(target.index) };
}

/** Cache mounts that the build starts afresh: id → does the mount stand on a tree (FEATURES D26). */
export function prunedCacheMounts(edge: EdgeRef<VertexSpec>): Map<string, boolean> {
  const ids = new Map<string, boolean>();
  for (const { spec, options } of walkVertexes(edge)) {
    if (!options.ignoreCache || spec.op.op?.$case !== 'exec') continue;
    for (const { cacheOpt, dest, input } of spec.op.op.value.mounts) {
      if (cacheOpt) ids.set(cacheOpt.ID || dest, input !== -1n);
    }
  }
  return ids;
}

/** Every vertex of a graph once, in no set order. */
export function* walkVertexes<Spec>(edge: EdgeRef<Spec>): Generator<Vertex<Spec>> {
  const seen = new Set<Vertex<Spec>>([edge.vertex]);
  for (const vertex of seen) {
    yield vertex;
    for (const input of vertex.inputs) seen.add(input.vertex);
  }
}

function decodeEntries({ def, metadata }: Definition): { entries: Map<Digest, Entry>; last: Digest } {
  if (def.length === 0) throw new BuildError('invalid empty definition');
  if (def.length > MAX_VERTEXES) throw new BuildError(`invalid LLB with more than ${MAX_VERTEXES} vertexes`);
  const entries = new Map<Digest, Entry>();
  let last = '' as Digest;
  for (const bytes of def) {
    const op = decodeOp(bytes);
    op.inputs.forEach((input, i) => {
      if (input.index < 0n) throw new BuildError(`invalid input ${i} output index ${input.index}`);
    });
    last = digestOf(bytes);
    entries.set(last, { op, metadata: metadata[last] ?? emptyMetadata() });
  }
  for (const { op } of entries.values()) {
    for (const { digest } of op.inputs) {
      if (!entries.has(digest as Digest)) throw missing(digest);
    }
  }
  if (entries.size < 2) throw new BuildError(`invalid LLB with ${entries.size} vertexes`);
  return { entries, last };
}

function decodeOp(bytes: Uint8Array): Op {
  try {
    return Op.decode(bytes);
  } catch (error) {
    throw BuildError.wrap(error, 'failed to parse llb proto op');
  }
}

function missing(digest: string): BuildError {
  return new BuildError(`invalid missing input digest ${digest}`);
}

class GraphBuilder {
  readonly #entries: ReadonlyMap<Digest, Entry>;
  readonly #source: Source | undefined;
  readonly #options: ParseOptions;
  readonly #platform: Platform;
  readonly #parse = (definition: Definition) => parseDefinition(definition, this.#options);
  readonly #built = new Map<Digest, Vertex<VertexSpec>>();
  readonly #open = new Set<Digest>();

  constructor(entries: ReadonlyMap<Digest, Entry>, source: Source | undefined, options: ParseOptions) {
    this.#entries = entries;
    this.#source = source;
    this.#options = options;
    this.#platform = normalizePlatform(options.defaultPlatform ?? hostPlatform());
  }

  /** Builds what `root` needs, inputs first, without recursion. */
  build(root: Digest): Vertex<VertexSpec> {
    const stack = [this.#enter(root)];
    for (let top = stack.at(-1); top; top = stack.at(-1)) {
      const input = top.entry.op.inputs[top.next++];
      if (!input) {
        stack.pop();
        this.#open.delete(top.digest);
        this.#built.set(top.digest, this.#vertex(top.digest, top.entry));
        continue;
      }
      const digest = input.digest as Digest;
      if (this.#open.has(digest)) throw new BuildError(`invalid LLB with a cycle at ${digest}`);
      if (!this.#built.has(digest)) stack.push(this.#enter(digest));
    }
    return this.#get(root);
  }

  #enter(digest: Digest): { digest: Digest; entry: Entry; next: number } {
    const entry = this.#entries.get(digest);
    if (!entry) throw missing(digest);
    validateOp(entry.op);
    for (const cap of Object.keys(entry.metadata.caps)) checkCap(cap, this.#options.caps);
    this.#open.add(digest);
    return { digest, entry, next: 0 };
  }

  #vertex(digest: Digest, { op, metadata }: Entry): Vertex<VertexSpec> {
    const inputs = op.inputs.map((input) => ({
      vertex: this.#get(input.digest as Digest),
      index: Number(input.index),
    }));
    const names = inputs.map((input) => input.vertex.name);
    const { version = CURRENT_VERSION } = this.#options;
    const vertex: Vertex<VertexSpec> = {
      digest,
      ...(hasWritableCheckouts(version) ? { variant: `v${version}` } : {}),
      name: metadata.description[CUSTOM_NAME] ?? opName(op, names),
      inputs,
      options: vertexOptions(metadata),
      spec: {
        op,
        platform: op.platform ? normalizePlatform(platformFromMessage(op.platform)) : this.#platform,
        metadata,
        version,
        locations: this.#locations(digest),
        parse: this.#parse,
      },
    };
    this.#options.check?.(vertex);
    return vertex;
  }

  #get(digest: Digest): Vertex<VertexSpec> {
    const vertex = this.#built.get(digest);
    if (!vertex) throw missing(digest);
    return vertex;
  }

  #locations(digest: Digest): VertexLocation[] {
    const locations = this.#source?.locations[digest]?.locations ?? [];
    return locations.flatMap(({ sourceIndex, ranges }) => {
      const info = this.#source?.infos[sourceIndex];
      // A position that is all zeros may be left out.
      const whole = ranges.map(({ start = NOWHERE, end = NOWHERE }) => ({ start, end }));
      return info ? [{ info, ranges: whole }] : [];
    });
  }
}

const NOWHERE = { line: 0, character: 0 };

function vertexOptions(metadata: OpMetadata): VertexOptions {
  return {
    ignoreCache: metadata.ignoreCache,
    description: metadata.description,
    ...(metadata.exportCache ? { exportCache: metadata.exportCache.Value } : {}),
    ...(metadata.progressGroup ? { progressGroup: metadata.progressGroup } : {}),
  };
}
