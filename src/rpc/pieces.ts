/** A piece below this size is copied behind what comes before it: one write instead of two. */
const COPY_BELOW_BYTES = 8 << 10;

/** The same bytes in fewer pieces; large ones are not copied. */
export function joinSmall(parts: readonly Buffer[]): Buffer[] {
  const pieces: Buffer[] = [];
  let small: Buffer[] = [];
  const join = (): void => {
    if (small.length > 0) pieces.push(small.length === 1 ? (small[0] as Buffer) : Buffer.concat(small));
    small = [];
  };
  for (const part of parts) {
    if (part.length < COPY_BELOW_BYTES) small.push(part);
    else {
      join();
      pieces.push(part);
    }
  }
  join();
  return pieces;
}
