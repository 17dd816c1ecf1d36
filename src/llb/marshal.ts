import { randomBytes } from 'node:crypto';
import { type Digest, digestOf } from '../base/digest.ts';
import { BuildError, invalidArgument } from '../base/errors.ts';
import type { Platform } from '../oci/platform.ts';
import { encodeOp } from './encode.ts';
import { fileInputs, fileMessage } from './file-message.ts';
import { constraintsMetadata, emptyMetadata, mergeMetadata } from './metadata.ts';
import type { Constraints, ExecNode, Node, Output, SourceLocation } from './node.ts';
import type { Definition, Input, Op, OpMetadata } from './ops.ts';
import { hostPlatform, platformToMessage } from './platform.ts';
import { SourceCollector } from './source-map.ts';
import type { State } from './state.ts';

const DEFAULT_PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';
/** Every step repeats the whole environment. */
const MAX_DEFINITION_BYTES = 256 << 20;
const SETS_PATH = 'exec.meta.setsdefaultpath';

export interface MarshalOptions {
  /** Of steps that name none and run in a tree that names none; this process's by default. */
  readonly platform?: Platform;
  readonly workerConstraints?: readonly string[];
  /** Keeps local sources of different builds apart; random by default. */
  readonly localUniqueId?: string;
  /** Fail on text that is no text (halves of surrogate pairs), which is otherwise replaced. */
  readonly checkText?: boolean;
  /** LLB capabilities of the daemon, when they are known. */
  readonly caps?: ReadonlySet<string>;
  /** Of every step, below what it says itself. */
  readonly metadata?: Constraints;
}

/**
 * The LLB definition of `state`; without entries when it is the empty tree.
 * @throws {BuildError} for a run without arguments or working directory
 */
export function marshal(state: State, options: MarshalOptions = {}): Definition {
  if (state.output === null) return { def: [], metadata: {}, Source: undefined };
  const marshaller = new Marshaller(options);
  marshaller.add(state.output.node);
  return marshaller.finish(state.output);
}

interface Encoded {
  readonly digest: Digest;
  readonly bytes: Uint8Array;
  readonly metadata: OpMetadata;
  readonly locations: readonly SourceLocation[];
}

class Marshaller {
  readonly #options: MarshalOptions;
  readonly #platform: Platform;
  readonly #uniqueId: string;
  readonly #encoded = new Map<Node, Encoded>();
  readonly #def = new Map<Digest, Uint8Array>();
  readonly #metadata = new Map<Digest, OpMetadata>();
  readonly #sources = new SourceCollector();
  #size = 0;

  constructor(options: MarshalOptions) {
    this.#options = options;
    this.#platform = options.platform ?? hostPlatform();
    this.#uniqueId = options.localUniqueId ?? randomBytes(16).toString('hex');
  }

  /** Inputs before the steps that need them, first input first. */
  add(root: Node): void {
    const stack = [{ node: root, inputs: inputsOf(root), next: 0 }];
    for (let top = stack.at(-1); top; top = stack.at(-1)) {
      const input = top.inputs[top.next++];
      if (!input) {
        stack.pop();
        this.#keep(top.node);
      } else if (!this.#encoded.has(input.node)) {
        stack.push({ node: input.node, inputs: inputsOf(input.node), next: 0 });
      }
    }
  }

  finish(output: Output): Definition {
    const last = encodeOp({ ...EMPTY_OP, inputs: [this.#input(output)] });
    const caps: Record<string, boolean> = { constraints: true, platform: true };
    for (const metadata of this.#metadata.values()) {
      if (metadata.ignoreCache) caps['meta.ignorecache'] = true;
      if (Object.keys(metadata.description).length > 0) caps['meta.description'] = true;
      if (metadata.exportCache) caps['meta.exportcache'] = true;
    }
    this.#metadata.set(digestOf(last), { ...emptyMetadata(), caps });
    return {
      def: [...this.#def.values(), last],
      metadata: Object.fromEntries(this.#metadata),
      Source: this.#sources.message((map) => marshal(map, this.#options)),
    };
  }

  #keep(node: Node): void {
    if (this.#encoded.has(node)) return;
    const encoded = this.#encode(node);
    this.#encoded.set(node, encoded);
    const before = this.#metadata.get(encoded.digest) ?? emptyMetadata();
    this.#metadata.set(encoded.digest, mergeMetadata(before, encoded.metadata));
    this.#sources.add(encoded.digest, encoded.locations);
    if (this.#def.has(encoded.digest)) return;
    this.#def.set(encoded.digest, encoded.bytes);
    this.#size += encoded.bytes.length;
    if (this.#size > MAX_DEFINITION_BYTES)
      throw invalidArgument(`the definition is larger than ${MAX_DEFINITION_BYTES} bytes`);
  }

  #encode(node: Node): Encoded {
    const locations = node.constraints.locations ?? [];
    if (node.kind === 'encoded') {
      return { digest: digestOf(node.bytes), bytes: node.bytes, metadata: node.metadata, locations };
    }
    const op = this.#op(node);
    if (this.#options.checkText) refuseIllFormed(op);
    const bytes = encodeOp(op);
    const caps =
      node.kind === 'exec' && this.#options.caps?.has(SETS_PATH) ? [...node.caps, SETS_PATH] : node.caps;
    return {
      digest: digestOf(bytes),
      bytes,
      metadata: this.#metadataOf(node.constraints, caps),
      locations,
    };
  }

  #metadataOf(constraints: Constraints, caps: readonly string[]): OpMetadata {
    const own = constraintsMetadata(constraints, caps);
    const { metadata } = this.#options;
    return metadata ? mergeMetadata(constraintsMetadata(metadata, []), own) : own;
  }

  #op(node: Exclude<Node, { kind: 'encoded' }>): Op {
    const filter = [
      ...(this.#options.workerConstraints ?? []),
      ...(node.constraints.workerConstraints ?? []),
    ];
    const op: Op = { ...EMPTY_OP, constraints: { filter } };
    const inputs = (): Input[] => inputsOf(node).map((output) => this.#input(output));
    switch (node.kind) {
      case 'source':
        return this.#sourceOp(node, op);
      case 'exec':
        return this.#execOp(node, op);
      case 'file': {
        const { file, inputs } = fileMessage(node.actions, (output) => this.#input(output));
        return { ...op, inputs, op: { $case: 'file', value: file } };
      }
      case 'merge': {
        const value = { inputs: node.inputs.map((_, i) => ({ input: BigInt(i) })) };
        return { ...op, inputs: inputs(), op: { $case: 'merge', value } };
      }
      case 'diff': {
        const upper = node.upper ? (node.lower ? 1n : 0n) : -1n;
        const value = { lower: { input: node.lower ? 0n : -1n }, upper: { input: upper } };
        return { ...op, inputs: inputs(), op: { $case: 'diff', value } };
      }
      case 'build': {
        const attrs: Record<string, string> = node.filename ? { 'llbbuild.filename': node.filename } : {};
        const named = { 'buildkit.llb.definition': { input: 0n } };
        const value = { builder: LLB_BUILDER, inputs: named, def: undefined, attrs };
        const platform = platformToMessage(node.constraints.platform ?? this.#platform);
        return { ...op, inputs: inputs(), platform, op: { $case: 'build', value } };
      }
      case 'passthrough': {
        const value = { id: node.id, outputs: node.outputs.map(BigInt) };
        return { ...op, inputs: inputs(), op: { $case: 'passthrough', value } };
      }
    }
  }

  #sourceOp(node: Extract<Node, { kind: 'source' }>, op: Op): Op {
    const { identifier } = node;
    const attrs = { ...node.attrs };
    if (identifier.startsWith('local://') && attrs['local.session'] === undefined) {
      attrs['local.unique'] = node.constraints.localUniqueId || this.#uniqueId;
    }
    const specific = identifier.startsWith('docker-image://') || identifier.startsWith('oci-layout://');
    const platform = specific ? platformToMessage(node.constraints.platform ?? this.#platform) : undefined;
    return { ...op, platform, op: { $case: 'source', value: { identifier, attrs } } };
  }

  #execOp(node: ExecNode, op: Op): Op {
    if (node.exec.meta?.args.length === 0) throw new BuildError('arguments are required');
    if (node.exec.meta?.cwd === '') throw new BuildError('working directory is required');
    const inputs: Input[] = [];
    const mounts = node.mounts.map((mount) => {
      if (!mount.input) return mount.message;
      const input = this.#input(mount.input);
      let at = inputs.findIndex((i) => i.digest === input.digest && i.index === input.index);
      if (at < 0) at = inputs.push(input) - 1;
      return { ...mount.message, input: BigInt(at) };
    });
    const platform = node.constraints.platform ?? node.basePlatform ?? this.#platform;
    const value = { ...node.exec, mounts: [...mounts, ...node.exec.mounts] };
    const { caps } = this.#options;
    const host = this.#options.platform ?? node.constraints.platform ?? this.#platform;
    if (caps && !caps.has(SETS_PATH) && node.lacksPath && host.os !== 'windows' && value.meta) {
      value.meta = { ...value.meta, env: [...value.meta.env, `PATH=${DEFAULT_PATH}`] };
    }
    return { ...op, inputs, platform: platformToMessage(platform), op: { $case: 'exec', value } };
  }

  #input(output: Output): Input {
    const encoded = this.#encoded.get(output.node);
    if (!encoded) throw new Error('input is not marshalled yet');
    return { digest: encoded.digest, index: BigInt(output.index) };
  }
}

/** The builder of build steps: solves a definition. */
const LLB_BUILDER = -1n;
const EMPTY_OP: Op = { inputs: [], op: undefined, platform: undefined, constraints: undefined };

function inputsOf(node: Node): readonly Output[] {
  switch (node.kind) {
    case 'source':
      return [];
    case 'exec':
      return [...new Set(node.mounts.flatMap(({ input }) => input ?? []))];
    case 'file':
      return fileInputs(node.actions);
    case 'build':
      return [node.input];
    case 'diff':
      return [node.lower, node.upper].flatMap((output) => output ?? []);
    case 'merge':
    case 'passthrough':
    case 'encoded':
      return node.inputs;
  }
}

/** @throws {BuildError} when a field of text, also of a message inside, can not be written as UTF-8 */
function refuseIllFormed(message: object): void {
  for (const value of Object.values(message)) {
    if (typeof value === 'string' && !value.isWellFormed())
      throw new BuildError('string field contains invalid UTF-8');
    if (typeof value === 'object' && value !== null && !(value instanceof Uint8Array)) refuseIllFormed(value);
  }
}
