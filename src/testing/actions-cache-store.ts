/** What the stand-in for GitHub's cache service keeps. */

/** A request is not served. Status 400 is a mistake of the client. */
export class Refusal extends Error {
  readonly status: number;

  constructor(status: number, message: string) {
    super(message);
    this.status = status;
  }

  /** As the version of the service at `path` says it. */
  json(path: string): string {
    if (path.startsWith('/twirp/'))
      return JSON.stringify({ code: this.status === 409 ? 'already_exists' : 'internal', msg: this.message });
    const typeKey = this.status === 409 ? 'ArtifactCacheItemAlreadyExistsException' : 'Other';
    return JSON.stringify({ message: this.message, typeKey, errorCode: 0 });
  }
}

export interface StoredEntry {
  readonly id: number;
  readonly key: string;
  readonly version: string;
  readonly scope: string;
}

interface Slot extends StoredEntry {
  readonly parts: { readonly offset: number; readonly data: Buffer }[];
  readonly blocks: Map<string, Buffer>;
  data: Buffer | undefined;
  committed: boolean;
}

export class ActionsCacheStore {
  readonly #slots: Slot[] = [];

  /** Those that can be found, oldest first. */
  get entries(): readonly StoredEntry[] {
    return this.#slots.filter(({ committed }) => committed);
  }

  keys(prefix = ''): string[] {
    return this.entries.map(({ key }) => key).filter((key) => key.startsWith(prefix));
  }

  /** Bytes of all entries, or of those whose key starts so. */
  size(prefix = ''): number {
    const found = this.#slots.filter(({ key, committed }) => committed && key.startsWith(prefix));
    return found.reduce((sum, { data }) => sum + (data?.length ?? 0), 0);
  }

  /** Forgets entries, as the service does when a repository has too many. */
  evict(prefix: string): void {
    for (let i = this.#slots.length - 1; i >= 0; i--)
      if (this.#slots[i]!.key.startsWith(prefix)) this.#slots.splice(i, 1);
  }

  /** Scope by scope: an entry of that key, or the newest whose key starts with one of the keys. */
  find(keys: readonly string[], version: string, scopes: readonly string[]): StoredEntry | undefined {
    checkVersion(version);
    for (const scope of scopes) {
      const own = this.#slots.filter((s) => s.committed && s.scope === scope && s.version === version);
      const exact = own.find(({ key }) => key === keys[0]);
      if (exact) return exact;
      for (const key of keys) {
        const newest = own.findLast((slot) => slot.key.startsWith(key));
        if (newest) return newest;
      }
    }
    return undefined;
  }

  reserve(key: string, version: string, scope: string): StoredEntry {
    checkVersion(version);
    if (key === '' || key.length > 512 || key.includes(',')) throw new Refusal(400, `key ${key}`);
    if (this.#at(key, version, scope)) throw new Refusal(409, `cache entry ${key} already exists`);
    const id = this.#slots.reduce((max, slot) => Math.max(max, slot.id), 0) + 1;
    const slot = { id, key, version, scope, parts: [], blocks: new Map(), data: undefined, committed: false };
    this.#slots.push(slot);
    return slot;
  }

  reserved(key: string, version: string, scope: string): StoredEntry {
    const slot = this.#at(key, version, scope);
    if (!slot) throw new Refusal(400, `${key} is not reserved`);
    return slot;
  }

  /** First version: pieces in any order, by their Content-Range. */
  putRange(id: number, range: string, data: Buffer): void {
    const match = /^bytes (\d+)-(\d+)\/\*$/.exec(range);
    const [from, to] = [Number(match?.[1]), Number(match?.[2])];
    if (!match || to - from + 1 !== data.length) throw new Refusal(400, `content-range ${range}`);
    this.#open(id).parts.push({ offset: from, data });
  }

  /** Second version, Azure's Blob service: Put Blob, Put Block, Put Block List. */
  put(id: number, data: Buffer): void {
    this.#open(id).data = data;
  }

  putBlock(id: number, block: string, data: Buffer): void {
    const { blocks } = this.#open(id);
    const [other] = blocks.keys();
    if (block === '' || Buffer.from(block, 'base64').length > 64) throw new Refusal(400, `block id ${block}`);
    if (other !== undefined && other.length !== block.length)
      throw new Refusal(400, 'ids of several lengths');
    blocks.set(block, data);
  }

  putBlockList(id: number, xml: string): void {
    const slot = this.#open(id);
    const blocks = [...xml.matchAll(/<Latest>([^<]*)<\/Latest>/g)].map(([, block]) => {
      const data = slot.blocks.get(block ?? '');
      if (!data) throw new Refusal(400, `no block ${block}`);
      return data;
    });
    slot.data = Buffer.concat(blocks);
  }

  commit(id: number, size: number): void {
    const slot = this.#open(id);
    const parts = [...slot.parts].sort((a, b) => a.offset - b.offset);
    let end = 0;
    for (const { offset, data } of parts) {
      if (offset !== end) throw new Refusal(400, `a gap, or bytes sent twice, at ${end}`);
      end += data.length;
    }
    slot.data ??= Buffer.concat(parts.map(({ data }) => data));
    if (slot.data.length !== size) throw new Refusal(400, `size ${size} of ${slot.data.length} bytes`);
    slot.committed = true;
  }

  read(id: number): Buffer {
    const slot = this.#slots.find((one) => one.id === id && one.committed);
    if (!slot) throw new Refusal(404, 'BlobNotFound');
    return slot.data!;
  }

  #at(key: string, version: string, scope: string): Slot | undefined {
    return this.#slots.find((s) => s.key === key && s.version === version && s.scope === scope);
  }

  #open(id: number): Slot {
    const slot = this.#slots.find((one) => one.id === id);
    if (!slot || slot.committed) throw new Refusal(400, `cache ${id} is not reserved`);
    return slot;
  }
}

function checkVersion(version: string): void {
  if (!/^[0-9a-f]{64}$/.test(version)) throw new Refusal(400, `version ${version}`);
}
