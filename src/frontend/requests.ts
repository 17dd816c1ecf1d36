import type { Capture, ImageMaterial } from '../attest/capture.ts';
import { type RequestRecord, requestRecord, sameRequest } from '../attest/request.ts';
import { type Digest, isDigest } from '../base/digest.ts';
import { type Definition, Op } from '../llb/ops.ts';
import type { Platform } from '../oci/platform.ts';
import { type FrontendResult, type LazyRef, refsOf } from './result.ts';

/** The part of a request that provenance tells of. */
export interface AskedRequest {
  readonly frontend: string;
  readonly frontendOpt: Readonly<Record<string, string>>;
  readonly frontendInputs: Readonly<Record<string, Definition>>;
}

type Result = FrontendResult<LazyRef>;

/** Which requests gave graphs that other requests take as inputs; of all builds that run (FEATURES E25). */
export class RequestStore {
  readonly #byVertex = new Map<Digest, Set<RequestRecord>>();

  /** Kept until disposed. */
  add(definition: Definition, record: RequestRecord): Disposable | undefined {
    const vertex = headOf(definition);
    if (!vertex) return undefined;
    const records = this.#byVertex.get(vertex) ?? new Set();
    this.#byVertex.set(vertex, records.add(record));
    return {
      [Symbol.dispose]: () => {
        records.delete(record);
        if (records.size === 0 && this.#byVertex.get(vertex) === records) this.#byVertex.delete(vertex);
      },
    };
  }

  /** The request behind a graph; undefined when there is none, or when there are several that differ. */
  find(definition: Definition): RequestRecord | undefined {
    const vertex = headOf(definition);
    const [first, ...others] = (vertex && this.#byVertex.get(vertex)) ?? [];
    return first && others.every((other) => sameRequest(first, other)) ? first : undefined;
  }
}

/** The vertex that a definition asks for. */
function headOf({ def }: Definition): Digest | undefined {
  const last = def.at(-1);
  const head = last && Op.decode(last).inputs[0]?.digest;
  return head && isDigest(head) ? head : undefined;
}

/** What one request has led to: graphs, look-ups, and requests of its own. A tree of them is a build. */
export class RequestScope {
  readonly #store: RequestStore;
  /** undefined for what the client does itself. */
  readonly #request: AskedRequest | undefined;
  readonly #root: AskedRequest;
  readonly #results: Result[] = [];
  readonly #nested: RequestScope[] = [];
  readonly #images: ImageMaterial[] = [];
  readonly #registered: Disposable[] = [];

  constructor(store: RequestStore, request: AskedRequest | undefined, root: AskedRequest) {
    this.#store = store;
    this.#request = request;
    this.#root = root;
  }

  /** The scope of a request that is made in this one. */
  nested(request: AskedRequest): RequestScope {
    const root = saysSomething(this.#root) ? this.#root : (this.#request ?? this.#root);
    return new RequestScope(this.#store, request, root);
  }

  /** A graph that this request solves. */
  add(result: Result): Result {
    this.#results.push(result);
    return result;
  }

  /** A nested request has given `result`. */
  adopt(scope: RequestScope, result: Result): Result {
    this.#nested.push(scope);
    return scope.add(result);
  }

  addImage(identifier: string, platform: Platform | undefined, digest: string): void {
    if (!isDigest(digest)) return;
    const local = !identifier.startsWith(IMAGE_SCHEME);
    this.#images.push({ ref: identifier.replace(/^[a-z-]+:\/\//, ''), platform, digest, local });
  }

  /** Lets other requests find out where their input came from. */
  register(ref: LazyRef): void {
    const record = ref.definition && this.#scopeOf(ref)?.record(ref.solved?.capture);
    const kept = record && this.#store.add(ref.definition!, record);
    if (kept) this.#registered.push(kept);
  }

  release(): void {
    for (const nested of this.#nested) nested.release();
    for (const kept of this.#registered.splice(0)) kept[Symbol.dispose]();
  }

  /** The scope that gave `ref`, innermost first. */
  scopeOf(ref: LazyRef): RequestScope | undefined {
    return this.#scopeOf(ref);
  }

  #scopeOf(ref: LazyRef): RequestScope | undefined {
    for (const nested of this.#nested) {
      const found = nested.#scopeOf(ref);
      if (found) return found;
    }
    return this.#results.some((result) => refsOf(result).includes(ref)) ? this : undefined;
  }

  /** Refs of this request and of those that it made. */
  refs(): LazyRef[] {
    return [
      ...this.#results.flatMap((result) => refsOf(result)),
      ...this.#nested.flatMap((nested) => nested.refs()),
    ];
  }

  /** Images that were looked up. */
  images(): ImageMaterial[] {
    return [...this.#images, ...this.#nested.flatMap((nested) => nested.images())];
  }

  /** This request; undefined when there is none. */
  record(capture: Capture | undefined): RequestRecord | undefined {
    return this.#request && this.#recordOf(this.#request, capture);
  }

  /** The outermost request, when it is another one. */
  root(capture: Capture): RequestRecord | undefined {
    if (!this.#request || !saysSomething(this.#root)) return undefined;
    const root = this.#recordOf(this.#root, capture);
    const { frontend, args, inputs } = root.request;
    if (frontend === '' && Object.keys(args).length === 0 && Object.keys(inputs).length === 0)
      return undefined;
    return sameRequest(root, this.#recordOf(this.#request, capture)) ? undefined : root;
  }

  #recordOf(asked: AskedRequest, capture: Capture | undefined): RequestRecord {
    const found = Object.entries(asked.frontendInputs).flatMap(([name, definition]) => {
      const record = this.#store.find(definition);
      return record ? [[name, record] as const] : [];
    });
    return requestRecord(asked.frontend, asked.frontendOpt, Object.fromEntries(found), capture);
  }
}

const IMAGE_SCHEME = 'docker-image://';

function saysSomething({ frontend, frontendOpt, frontendInputs }: AskedRequest): boolean {
  return frontend !== '' || Object.keys(frontendOpt).length > 0 || Object.keys(frontendInputs).length > 0;
}
