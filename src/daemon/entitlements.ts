import { BuildError, invalidArgument } from '../base/errors.ts';

/** What a build may do beyond the sandbox (FEATURES A13, B16). */
export type Entitlement = 'network.host' | 'security.insecure' | 'device';
const KNOWN: ReadonlySet<string> = new Set(['network.host', 'security.insecure', 'device']);

/** @throws BuildError for a name nobody knows; `device=…` counts as `device`. */
export function parseEntitlement(text: string): Entitlement {
  const name = text.startsWith('device=') ? 'device' : text;
  if (!KNOWN.has(name)) throw invalidArgument(`unknown entitlement ${text}`);
  return name as Entitlement;
}

/** The entitlements a request gets, each of which the daemon must allow. */
export function grantEntitlements(
  requested: readonly string[],
  allowed: ReadonlySet<Entitlement>,
): ReadonlySet<Entitlement> {
  const granted = requested.map(parseEntitlement);
  for (const name of granted) {
    if (!allowed.has(name)) {
      throw new BuildError(`granting entitlement ${name} is not allowed by build daemon configuration`, {
        hint: `start buildkitd with --allow-insecure-entitlement ${name}, or leave out --allow ${name}`,
      });
    }
  }
  return new Set(granted);
}

/** @throws BuildError when a step needs what the build was not granted. */
export function checkStep(
  step: { readonly networkHost: boolean; readonly insecure: boolean; readonly devices: number },
  granted: ReadonlySet<Entitlement>,
): void {
  const need = (wanted: boolean, name: Entitlement): void => {
    if (wanted && !granted.has(name)) {
      throw new BuildError(`${name} is not allowed`, { hint: `run the build with --allow ${name}` });
    }
  };
  need(step.networkHost, 'network.host');
  need(step.insecure, 'security.insecure');
  need(step.devices > 0, 'device');
}
