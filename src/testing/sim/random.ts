/** A whole number from 0, below `below`; equal seeds give equal sequences. */
export type Random = (below: number) => number;

/** mulberry32: small, fast, and every seed is as good as any other. */
export function randomOf(seed: number): Random {
  let state = (seed * 2654435761) >>> 0;
  return (below) => {
    state = (state + 0x6d2b79f5) >>> 0;
    let x = Math.imul(state ^ (state >>> 15), state | 1);
    x ^= x + Math.imul(x ^ (x >>> 7), x | 61);
    return Math.floor((((x ^ (x >>> 14)) >>> 0) / 2 ** 32) * below);
  };
}
