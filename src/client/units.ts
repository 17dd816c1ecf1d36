const DECIMAL = ['B', 'kB', 'MB', 'GB', 'TB', 'PB', 'EB'];

function scale(bytes: number): { value: number; unit: string } {
  let value = bytes;
  let step = 0;
  while (Math.abs(value) >= 1000 && step < DECIMAL.length - 1) {
    value /= 1000;
    step++;
  }
  return { value, unit: DECIMAL[step]! };
}

/** `1.23kB`, `4.50MB`; whole bytes below 1 kB. */
export function bytesText(bytes: number): string {
  const { value, unit } = scale(bytes);
  return unit === 'B' ? `${bytes}B` : `${value.toFixed(2)}${unit}`;
}

/** As many digits as the number needs: `10GB`, `187.5MB`. */
export function bytesShort(bytes: number): string {
  const { value, unit } = scale(bytes);
  return `${value}${unit}`;
}
