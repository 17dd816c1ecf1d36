import type { SolveStatus, VertexWarning } from '../../solver/status-types.ts';
import { openDisplay, resetTime } from './display.ts';
import type { ProgressView, ShowOptions } from './show-types.ts';

/**
 * Shows the progress of a build until it ends.
 * @returns the warnings that came
 * @throws BuildError for `tty` where there is no terminal, and whatever reading the progress throws
 */
export async function showProgress(
  progress: AsyncIterable<SolveStatus>,
  options: ShowOptions = {},
): Promise<VertexWarning[]> {
  const warnings: VertexWarning[] = [];
  using view = openProgress(options);
  for await (const status of progress) {
    warnings.push(...status.warnings);
    view.update(status);
  }
  return warnings;
}

/** A display to be fed by hand. @throws BuildError for `tty` where there is no terminal */
export function openProgress(options: ShowOptions = {}): ProgressView {
  const { mode = 'auto', output = process.stderr, env = process.env, keepTimes = false } = options;
  const write = (text: string): void => void output.write(Buffer.from(`${text}\n`));
  const display = openDisplay(mode, output, env, write, options);
  const moved = keepTimes ? (status: SolveStatus) => status : resetTime();
  let open = true;
  const finish = (): void => {
    if (open) display.finish();
    open = false;
  };
  return {
    update: (status) => {
      options.onStatus?.(status);
      if (open) display.update(moved(status));
    },
    finish,
    [Symbol.dispose]: finish,
  };
}
