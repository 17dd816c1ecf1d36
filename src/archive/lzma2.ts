import { BuildError, Code } from '../base/errors.ts';

const LITERAL_STEP = 0x300;
const IS_MATCH = 0;
const IS_REP = 192;
const IS_REP0 = 204;
const IS_REP1 = 216;
const IS_REP2 = 228;
const IS_REP0_LONG = 240;
const SLOTS = 432;
const SPECIAL = 688;
const ALIGN = 816;
const LENGTH = 832;
const REP_LENGTH = 1346;
const LITERALS = 1860;
const TOP = 0x1000000;
/** Room in the window beyond the dictionary; a chunk has at most 2 MiB. */
const SLACK_BYTES = 4 << 20;

export function corruptXz(): BuildError {
  return new BuildError('xz data invalid', { code: Code.invalidArgument });
}

/** Decoder of LZMA2 chunks; the window holds what matches may refer to. */
export class Lzma2Decoder {
  readonly #dictSize: number;
  readonly #window: Buffer;
  readonly #probs = new Uint16Array(LITERALS + (LITERAL_STEP << 4));
  /** End of the data in the window, and its length since the dictionary was reset. */
  #end = 0;
  #position = 0;
  #state = 0;
  #reps = [0, 0, 0, 0];
  #lc = 0;
  #lpMask = 0;
  #pbMask = 0;
  #input: Uint8Array = new Uint8Array(0);
  #at = 0;
  #range = 0;
  #code = 0;
  #needsDict = true;
  #needsState = true;

  constructor(dictSize: number) {
    this.#dictSize = dictSize;
    this.#window = Buffer.allocUnsafeSlow(dictSize + SLACK_BYTES);
  }

  /** A chunk stored as it is. */
  stored(data: Uint8Array, resetDict: boolean): Buffer {
    this.#startChunk(data.length, resetDict);
    this.#window.set(data, this.#end);
    return this.#finish(data.length);
  }

  /** @param reset 0 nothing, 1 the state, 2 and the properties, 3 and the dictionary */
  packed(data: Uint8Array, size: number, reset: number, properties: number): Buffer {
    this.#startChunk(size, reset === 3);
    if (reset >= 2) this.#setProperties(properties);
    if (reset >= 1) this.#resetState();
    if (this.#needsState || data.length < 5) throw corruptXz();
    this.#input = data;
    this.#at = 5;
    this.#range = 0xffffffff;
    this.#code = ((data[1]! << 24) | (data[2]! << 16) | (data[3]! << 8) | data[4]!) >>> 0;
    this.#decode(size);
    if (this.#at > data.length) throw corruptXz();
    return this.#finish(size);
  }

  #startChunk(size: number, resetDict: boolean): void {
    if (resetDict) {
      this.#end = 0;
      this.#position = 0;
      this.#needsDict = false;
    } else if (this.#needsDict) throw corruptXz();
    if (this.#end + size <= this.#window.length) return;
    const kept = Math.min(this.#end, this.#dictSize);
    this.#window.copyWithin(0, this.#end - kept, this.#end);
    this.#end = kept;
  }

  #finish(size: number): Buffer {
    this.#end += size;
    this.#position += size;
    return Buffer.from(this.#window.subarray(this.#end - size, this.#end));
  }

  #setProperties(properties: number): void {
    if (properties >= 225) throw corruptXz();
    const lp = Math.floor(properties / 9) % 5;
    this.#lc = properties % 9;
    if (this.#lc + lp > 4) throw corruptXz();
    this.#lpMask = (1 << lp) - 1;
    this.#pbMask = (1 << Math.floor(properties / 45)) - 1;
  }

  #resetState(): void {
    this.#probs.fill(1024);
    this.#state = 0;
    this.#reps = [0, 0, 0, 0];
    this.#needsState = false;
  }

  #bit(index: number): number {
    if (this.#range < TOP) {
      this.#range = (this.#range << 8) >>> 0;
      this.#code = ((this.#code << 8) | this.#input[this.#at++]!) >>> 0;
    }
    const prob = this.#probs[index]!;
    const bound = (this.#range >>> 11) * prob;
    if (this.#code < bound) {
      this.#range = bound;
      this.#probs[index] = prob + ((2048 - prob) >> 5);
      return 0;
    }
    this.#range -= bound;
    this.#code -= bound;
    this.#probs[index] = prob - (prob >> 5);
    return 1;
  }

  #tree(base: number, bits: number): number {
    let node = 1;
    for (let i = 0; i < bits; i++) node = (node << 1) | this.#bit(base + node);
    return node - (1 << bits);
  }

  #reverseTree(base: number, bits: number): number {
    let node = 1;
    let value = 0;
    for (let i = 0; i < bits; i++) {
      const bit = this.#bit(base + node);
      node = (node << 1) | bit;
      value |= bit << i;
    }
    return value;
  }

  #direct(bits: number): number {
    let value = 0;
    for (let i = 0; i < bits; i++) {
      if (this.#range < TOP) {
        this.#range = (this.#range << 8) >>> 0;
        this.#code = ((this.#code << 8) | this.#input[this.#at++]!) >>> 0;
      }
      this.#range >>>= 1;
      const bit = this.#code >= this.#range ? 1 : 0;
      if (bit) this.#code -= this.#range;
      value = value * 2 + bit;
    }
    return value;
  }

  #length(base: number, posState: number): number {
    if (!this.#bit(base)) return this.#tree(base + 2 + (posState << 3), 3);
    if (!this.#bit(base + 1)) return 8 + this.#tree(base + 130 + (posState << 3), 3);
    return 16 + this.#tree(base + 258, 8);
  }

  #decode(size: number): void {
    const stop = this.#end + size;
    for (let out = this.#end; out < stop; ) {
      const position = this.#position + out - this.#end;
      const posState = position & this.#pbMask;
      if (!this.#bit(IS_MATCH + (this.#state << 4) + posState)) {
        this.#window[out] = this.#literal(out, position);
        out++;
        continue;
      }
      const length = this.#match(posState);
      const distance = this.#reps[0]! + 1;
      if (distance > position || distance > this.#dictSize || length > stop - out) throw corruptXz();
      for (let i = 0; i < length; i++, out++) this.#window[out] = this.#window[out - distance]!;
    }
  }

  #literal(out: number, position: number): number {
    const before = position > 0 ? this.#window[out - 1]! : 0;
    const context = ((position & this.#lpMask) << this.#lc) + (before >> (8 - this.#lc));
    const base = LITERALS + LITERAL_STEP * context;
    let symbol = 1;
    if (this.#state >= 7) {
      const distance = this.#reps[0]! + 1;
      if (distance > position) throw corruptXz();
      let matched = this.#window[out - distance]!;
      while (symbol < 0x100) {
        const expected = (matched >> 7) & 1;
        matched <<= 1;
        const bit = this.#bit(base + ((1 + expected) << 8) + symbol);
        symbol = (symbol << 1) | bit;
        if (bit !== expected) break;
      }
    }
    while (symbol < 0x100) symbol = (symbol << 1) | this.#bit(base + symbol);
    this.#state = this.#state < 4 ? 0 : this.#state < 10 ? this.#state - 3 : this.#state - 6;
    return symbol & 0xff;
  }

  /** Sets the newest distance and returns the length of a match. */
  #match(posState: number): number {
    const state = this.#state;
    const [rep0, rep1, rep2, rep3] = this.#reps as [number, number, number, number];
    if (!this.#bit(IS_REP + state)) {
      const length = this.#length(LENGTH, posState);
      this.#state = state < 7 ? 7 : 10;
      this.#reps = [this.#distance(length), rep0, rep1, rep2];
      return length + 2;
    }
    if (!this.#bit(IS_REP0 + state)) {
      if (!this.#bit(IS_REP0_LONG + (state << 4) + posState)) {
        this.#state = state < 7 ? 9 : 11;
        return 1;
      }
    } else if (!this.#bit(IS_REP1 + state)) this.#reps = [rep1, rep0, rep2, rep3];
    else if (!this.#bit(IS_REP2 + state)) this.#reps = [rep2, rep0, rep1, rep3];
    else this.#reps = [rep3, rep0, rep1, rep2];
    this.#state = state < 7 ? 8 : 11;
    return this.#length(REP_LENGTH, posState) + 2;
  }

  #distance(length: number): number {
    const slot = this.#tree(SLOTS + (Math.min(length, 3) << 6), 6);
    if (slot < 4) return slot;
    const bits = (slot >> 1) - 1;
    const high = (2 | (slot & 1)) * 2 ** bits;
    if (slot < 14) return high + this.#reverseTree(SPECIAL + high - slot, bits);
    return high + this.#direct(bits - 4) * 16 + this.#reverseTree(ALIGN, 4);
  }
}
