import { BuildError } from '../base/errors.ts';
import type { GatewayRequest } from './gateway.ts';
import type { SolveRequest } from './solve-types.ts';

/** Shows the step that failed to whoever wants to look into it. */
export function lookInto({
  onFailedStep,
  onWarning,
}: Pick<SolveRequest, 'onFailedStep' | 'onWarning'>): NonNullable<GatewayRequest['onFailure']> {
  return async (error, bridge, options) => {
    try {
      const { failedStepOf } = await import('./failed-step.ts');
      const { noShell, shellIn } = await import('./step-shell.ts');
      const step = failedStepOf(error);
      if (!step) return;
      const shell = shellIn(step, bridge, options);
      if (!shell) throw noShell(step);
      await onFailedStep?.(shell);
    } catch (failed) {
      onWarning?.(BuildError.from(failed).message);
    }
  };
}
