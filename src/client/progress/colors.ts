import { BuildError } from '../../base/errors.ts';
import { csvFields } from '../csv.ts';

/** Escape sequences that start a color; undefined = no color. */
export interface Colors {
  readonly run: string | undefined;
  readonly cancel: string | undefined;
  readonly warning: string | undefined;
  readonly error: string | undefined;
  /** Of the output of running steps. */
  readonly faint: string;
}

const NAMES = ['black', 'red', 'green', 'yellow', 'blue', 'magenta', 'cyan', 'white'];
const RESET = '\x1b[0m';

/** Colors of the terminal display (FEATURES L26). What cannot be understood is told to `warn` and left out. */
export function readColors(
  env: { readonly NO_COLOR?: string | undefined; readonly BUILDKIT_COLORS?: string | undefined },
  warn: (text: string) => void,
): Colors {
  const faint = '\x1b[2m';
  if (env.NO_COLOR) return { run: undefined, cancel: undefined, warning: undefined, error: undefined, faint };
  const yellow = '\x1b[33m';
  const colors = { run: '\x1b[34m', cancel: yellow, warning: yellow, error: '\x1b[31m', faint };
  if (env.BUILDKIT_COLORS === undefined) return colors;
  let fields: string[];
  try {
    fields = csvFields(env.BUILDKIT_COLORS, ':');
  } catch (error) {
    warn(`could not parse BUILDKIT_COLORS, the defaults are used: ${BuildError.from(error).message}`);
    return colors;
  }
  for (const entry of fields) {
    const [key = '', value, more] = entry.split('=');
    const name = key.toLowerCase();
    if (value === undefined || more !== undefined)
      warn(`could not parse BUILDKIT_COLORS component: ${entry}`);
    else {
      const color = colorOf(value);
      if (color === undefined) warn(`unknown color value in BUILDKIT_COLORS: ${entry}`);
      else if (name === 'run' || name === 'cancel' || name === 'warning' || name === 'error')
        colors[name] = color;
      else warn(`unknown key in BUILDKIT_COLORS (expected run, cancel, error or warning): ${key}`);
    }
  }
  return colors;
}

export function paintText(text: string, color: string | undefined): string {
  return color === undefined ? text : `${color}${text}${RESET}`;
}

function colorOf(value: string): string | undefined {
  const name = value.toLowerCase();
  if (name === 'default') return '\x1b[39m';
  const light = name.startsWith('light-');
  const index = NAMES.indexOf(light ? name.slice('light-'.length) : name);
  if (index >= 0) return `\x1b[${(light ? 90 : 30) + index}m`;
  const parts = value.split(',');
  if (parts.length !== 3 || !parts.every((p) => /^\d{1,3}$/.test(p) && Number(p) <= 255)) return undefined;
  const [r, g, b] = parts.map((p) => Math.floor(Number(p) / 43)) as [number, number, number];
  return `\x1b[38;5;${16 + 36 * r + 6 * g + b}m`;
}
