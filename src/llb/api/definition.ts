import { digestOf } from '../../base/digest.ts';
import { decodeDefinition, encodeDefinition } from '../encode.ts';
import { type Definition as Message, Op } from '../ops.ts';

/** A graph as a daemon solves it: the message `pb.Definition`. */
export class Definition {
  readonly #message: Message;

  /** @internal */
  constructor(message: Message) {
    this.#message = message;
  }

  /** @internal */
  get message(): Message {
    return this.#message;
  }

  /** The message, encoded: what `buildctl build` reads and `buildctl debug dump-llb` shows. Equal graphs, equal bytes. */
  toBytes(): Uint8Array {
    return encodeDefinition(this.#message);
  }

  /** Digests of the steps, inputs before those that need them. Without the last entry, which names the result. */
  get digests(): string[] {
    return this.#message.def.slice(0, -1).map((bytes) => digestOf(bytes));
  }

  /** Digest of the step that gives the result; undefined for the empty tree. */
  get head(): string | undefined {
    const last = this.#message.def.at(-1);
    return last && Op.decode(last).inputs[0]?.digest;
  }
}

/**
 * Reads what `Definition.toBytes`, or any other BuildKit client, has written. Steps are looked at when they are used.
 * @throws {Error} for bytes that are no definition
 */
export function readDefinition(bytes: Uint8Array): Definition {
  return new Definition(decodeDefinition(bytes));
}
