/** Text with tab-ended cells as aligned columns, the way Go's tabwriter does it. */
export interface TableOptions {
  /** Columns of a tab stop when padding with tabs; 0 pads with blanks. */
  readonly tabWidth: number;
}

const PADDING = 1;
/** What `du`, `prune` and `debug workers` use. */
export const TABS: TableOptions = { tabWidth: 8 };
export const BLANKS: TableOptions = { tabWidth: 0 };

/** A column is a run of lines that have a cell there; a line without one ends it. */
export function tabulate(text: string, { tabWidth }: TableOptions): string {
  const lines = text.split('\n').map((line) => line.split('\t'));
  const out: string[] = [];
  const widths: number[] = [];

  const write = (from: number, to: number): void => {
    for (let at = from; at < to; at++) {
      const cells = lines[at]!;
      out.push(
        cells.map((cell, index) => (index < widths.length ? pad(cell, widths[index]!) : cell)).join(''),
      );
    }
  };
  const pad = (cell: string, width: number): string => {
    if (tabWidth === 0) return cell.padEnd(width);
    const stop = Math.ceil(width / tabWidth) * tabWidth;
    return cell + '\t'.repeat(Math.ceil((stop - [...cell].length) / tabWidth));
  };
  const format = (from: number, to: number): void => {
    const column = widths.length;
    let start = from;
    for (let at = from; at < to; at++) {
      if (column >= lines[at]!.length - 1) continue;
      write(start, at);
      start = at;
      let width = 0;
      for (; at < to && column < lines[at]!.length - 1; at++)
        width = Math.max(width, [...lines[at]![column]!].length + PADDING);
      widths.push(width);
      format(start, at);
      widths.pop();
      start = at;
      at--;
    }
    write(start, to);
  };

  format(0, lines.length);
  return out.join('\n');
}
