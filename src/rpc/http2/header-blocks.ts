import { ErrorCode, Flag, type FrameHead, FrameType, ProtocolError } from './frames.ts';
import { HeaderDecoder } from './hpack.ts';

/** Puts header blocks together, which may come in several frames, and decodes them. */
export class HeaderBlocks {
  readonly #decoder: HeaderDecoder;
  readonly #maxBytes: number;
  #begun: { readonly head: FrameHead; readonly parts: Buffer[]; bytes: number } | undefined;

  constructor(limits: { readonly maxBytes: number; readonly maxPairs: number }) {
    this.#maxBytes = limits.maxBytes;
    this.#decoder = new HeaderDecoder(limits);
  }

  /** @throws ProtocolError when a frame like this can not come now: nothing may stand between parts of a block */
  check(head: FrameHead): void {
    const expected = this.#begun !== undefined;
    if ((head.type === FrameType.continuation) !== expected)
      throw new ProtocolError(
        expected ? 'a header block that is not continued' : 'a continuation of nothing',
      );
    if (this.#begun && head.stream !== this.#begun.head.stream)
      throw new ProtocolError('a continuation of another stream');
  }

  /** `fragment` of a HEADERS or CONTINUATION frame. @returns the whole block with its first frame, once it is complete */
  add(head: FrameHead, fragment: Buffer): { head: FrameHead; list: string[] } | undefined {
    if (head.stream === 0) throw new ProtocolError('headers of no stream');
    this.#begun ??= { head, parts: [], bytes: 0 };
    const block = this.#begun;
    block.bytes += fragment.length;
    if (block.bytes > this.#maxBytes)
      throw new ProtocolError('a header block above the limit', ErrorCode.enhanceYourCalm);
    block.parts.push(fragment);
    if (!(head.flags & Flag.endHeaders)) return undefined;
    this.#begun = undefined;
    const list = this.#decoder.decode(block.parts.length === 1 ? fragment : Buffer.concat(block.parts));
    return { head: block.head, list };
  }
}
