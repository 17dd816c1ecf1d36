import type { Constraints } from './node.ts';
import type { OpMetadata } from './ops.ts';

/** Description key of a name that replaces the step's own. */
export const CUSTOM_NAME = 'llb.customname';

export function emptyMetadata(): OpMetadata {
  return {
    ignoreCache: false,
    description: {},
    exportCache: undefined,
    caps: {},
    progressGroup: undefined,
    linuxResources: undefined,
  };
}

/** Metadata of equal steps put together (FEATURES D18): what the later one says goes before. */
export function mergeMetadata(before: OpMetadata, after: OpMetadata): OpMetadata {
  return {
    ignoreCache: before.ignoreCache || after.ignoreCache,
    description: { ...before.description, ...after.description },
    exportCache: after.exportCache ?? before.exportCache,
    caps: { ...before.caps, ...Object.fromEntries(Object.keys(after.caps).map((cap) => [cap, true])) },
    progressGroup: after.progressGroup ?? before.progressGroup,
    linuxResources: after.linuxResources ?? before.linuxResources,
  };
}

export function constraintsMetadata(constraints: Constraints, caps: readonly string[]): OpMetadata {
  const { customName, exportCache } = constraints;
  const description = { ...constraints.description };
  if (customName !== undefined) description[CUSTOM_NAME] = customName;
  return {
    ignoreCache: constraints.ignoreCache ?? false,
    description,
    exportCache: exportCache === undefined ? undefined : { Value: exportCache },
    caps: Object.fromEntries([...caps, ...(constraints.caps ?? [])].map((cap) => [cap, true])),
    progressGroup: constraints.progressGroup,
    linuxResources: constraints.linuxResources,
  };
}
