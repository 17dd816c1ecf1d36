import { isSpace } from './text.ts';

/** Takes the pieces of a text while it is built. */
export interface Words {
  /** Text that blanks split. */
  add(text: string): void;
  /** Text that stays together. */
  addRaw(text: string): void;
  finish(): string[];
}

/** Where nobody asks for words: splitting costs more than all the rest. */
export const NO_WORDS: Words = { add: () => undefined, addRaw: () => undefined, finish: () => [] };

/** Collects words while the text is built. The buffer is shared with nested scans, which empty it. */
export class WordCollector implements Words {
  readonly #shared: { buffer: string };
  readonly #words: string[] = [];
  #inWord = false;

  constructor(shared: { buffer: string }) {
    this.#shared = shared;
    shared.buffer = '';
  }

  add(text: string): void {
    for (const character of text) {
      if (!isSpace(character)) this.addRaw(character);
      else if (this.#inWord) this.#flush();
    }
  }

  addRaw(text: string): void {
    this.#shared.buffer += text;
    this.#inWord = true;
  }

  finish(): string[] {
    this.#flush();
    return this.#words;
  }

  #flush(): void {
    if (this.#shared.buffer === '') return;
    this.#words.push(this.#shared.buffer);
    this.#shared.buffer = '';
    this.#inWord = false;
  }
}
