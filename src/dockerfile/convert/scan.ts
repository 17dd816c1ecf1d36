import type { State } from '../../llb/state.ts';
import { parseBool } from '../text.ts';
import type { DispatchContext } from './dispatch.ts';
import { reachableFrom, type StageState } from './stage.ts';

const CONTEXT_ARG = 'BUILDKIT_SBOM_SCAN_CONTEXT';
const STAGE_ARG = 'BUILDKIT_SBOM_SCAN_STAGE';
/** ARGs that only steer the build. */
export const SCAN_ARGS: readonly string[] = [CONTEXT_ARG, STAGE_ARG];

/** What is to be scanned for a bill of materials (FEATURES J40). */
export interface ScanTargets {
  readonly core: State;
  /** The context and other stages, where the file asks for it. */
  readonly extras: ReadonlyMap<string, State>;
  readonly ignoreCache: boolean;
}

export function scanTargets(
  target: StageState,
  { globalArgs, buildContext }: Pick<DispatchContext, 'globalArgs' | 'buildContext'>,
): ScanTargets {
  const extras = new Map<string, State>();
  const asks = (stage: StageState, name: string): boolean => {
    const own = stage.args.findLast(({ key, value }) => key === name && value !== undefined);
    const value = own?.value ?? globalArgs.get(name);
    return value !== undefined && (parseBool(value) ?? value.split(',').includes(stage.displayName));
  };
  if (asks(target, CONTEXT_ARG)) extras.set('context', buildContext);
  let { ignoreCache } = target;
  for (const stage of reachableFrom(target)) {
    if (stage === target || !stage.dispatched || !asks(stage, STAGE_ARG)) continue;
    extras.set(stage.displayName, stage.state);
    ignoreCache ||= stage.ignoreCache;
  }
  return { core: target.state, extras, ignoreCache };
}
