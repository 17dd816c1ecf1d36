const MIN_WIDTH = 6;
/** An escape sequence longer than this is no sequence. */
const MAX_SEQUENCE = 32;

/** The last lines of a step's output as a terminal would show them: line ends, carriage returns, cursor moves. */
export class Screen {
  #width: number;
  #rows: string[][];
  #x = 0;
  #y = 0;
  #pending = '';
  readonly #decoder = new TextDecoder();

  constructor(height: number, width: number) {
    this.#width = Math.max(MIN_WIDTH, width);
    this.#rows = Array.from({ length: Math.max(1, height) }, () => this.#blank());
  }

  get width(): number {
    return this.#width;
  }

  get height(): number {
    return this.#rows.length;
  }

  resize(height: number, width: number): void {
    this.#width = Math.max(MIN_WIDTH, width);
    this.#rows.length = Math.min(this.#rows.length, Math.max(1, height));
    while (this.#rows.length < height) this.#rows.push(this.#blank());
    for (const row of this.#rows) {
      row.length = Math.min(row.length, this.#width);
      while (row.length < this.#width) row.push(' ');
    }
    this.#x = Math.min(this.#x, this.#width - 1);
    this.#y = Math.min(this.#y, this.#rows.length);
  }

  write(data: Uint8Array): void {
    const text = this.#pending + this.#decoder.decode(data, { stream: true });
    this.#pending = '';
    let at = 0;
    while (at < text.length) {
      if (text[at] === '\x1b') {
        const end = this.#escape(text, at);
        if (end === undefined) {
          this.#pending = text.slice(at);
          return;
        }
        at = end;
      } else {
        const character = String.fromCodePoint(text.codePointAt(at)!);
        this.#put(character);
        at += character.length;
      }
    }
  }

  /** Lines that are not blank, as wide as the screen. */
  lines(): string[] {
    return this.#rows.map((row) => row.join('')).filter((line) => line.trim() !== '');
  }

  #blank(): string[] {
    return new Array<string>(this.#width).fill(' ');
  }

  #put(character: string): void {
    if (character === '\n') {
      this.#y++;
      this.#x = 0;
      return;
    }
    if (character === '\r') this.#x = 0;
    else if (character === '\b') this.#x = Math.max(0, this.#x - 1);
    else if (character === '\t') this.#x = Math.min(this.#width - 1, (this.#x & ~7) + 8);
    else if (character >= ' ' && character !== '\x7f') {
      this.#scroll();
      this.#rows[this.#y]![this.#x] = character;
      if (++this.#x >= this.#width) {
        this.#x = 0;
        this.#y++;
      }
    }
  }

  #scroll(): void {
    while (this.#y >= this.#rows.length) {
      this.#rows.shift();
      this.#rows.push(this.#blank());
      this.#y--;
    }
  }

  /** Where the sequence at `at` ends, or undefined when it is not whole yet. */
  #escape(text: string, at: number): number | undefined {
    const match = /^\x1b\[([\d;?]*)([@-~])/.exec(text.slice(at, at + MAX_SEQUENCE));
    if (match) {
      this.#command(match[2]!, match[1]!.split(';').map(Number));
      return at + match[0].length;
    }
    if (text.length - at < MAX_SEQUENCE && /^\x1b(\[[\d;?]*)?$/.test(text.slice(at))) return undefined;
    return at + (text[at + 1] === '[' ? 2 : 1);
  }

  #command(name: string, args: readonly number[]): void {
    const count = args[0] || 1;
    const lastRow = this.#rows.length - 1;
    if (name === 'A') this.#y = Math.max(0, this.#y - count);
    else if (name === 'B') this.#y = Math.min(lastRow, this.#y + count);
    else if (name === 'C') this.#x = Math.min(this.#width - 1, this.#x + count);
    else if (name === 'D') this.#x = Math.max(0, this.#x - count);
    else if (name === 'G') this.#x = Math.min(this.#width, count) - 1;
    else if (name === 'H' || name === 'f') {
      this.#y = Math.min(lastRow, count - 1);
      this.#x = Math.min(this.#width, args[1] || 1) - 1;
    } else if (name === 'K') this.#eraseInLine(args[0] ?? 0);
    else if (name === 'J') this.#eraseLines(args[0] ?? 0);
  }

  #eraseInLine(mode: number): void {
    const row = this.#rows[this.#y];
    row?.fill(' ', mode === 0 ? this.#x : 0, mode === 1 ? this.#x + 1 : this.#width);
  }

  #eraseLines(mode: number): void {
    const from = mode === 0 ? this.#y : 0;
    const to = mode === 1 ? this.#y : this.#rows.length - 1;
    for (let row = from; row <= to; row++) this.#rows[row]?.fill(' ');
  }
}
