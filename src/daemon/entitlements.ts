import { BuildError, invalidArgument } from '../base/errors.ts';
import { csvFields } from '../dockerfile/instructions/csv.ts';
import type { DeviceRegistry, DeviceRequest } from '../executor/cdi/registry.ts';

/** What a build may do beyond the sandbox (FEATURES A13, B16). */
export type Entitlement = 'network.host' | 'security.insecure' | 'device';
const KNOWN: ReadonlySet<string> = new Set(['network.host', 'security.insecure', 'device']);

/** Devices that a step may ask for: each is looked up among all there are. */
const MAX_DEVICES = 1000;

/** Devices that a request may use. */
export interface DeviceGrant {
  /** Every device. */
  readonly all: boolean;
  /** Forms of names as in a step, each with the device it stands for; '' = itself. */
  readonly names: ReadonlyMap<string, string>;
}

/** What a request was granted. */
export interface Grants {
  readonly names: ReadonlySet<Entitlement>;
  /** Undefined without the entitlement. */
  readonly devices: DeviceGrant | undefined;
}

/**
 * Reads `NAME` or, of devices, `device=DEVICE[,alias=NAME]`.
 * @throws BuildError for a name nobody knows
 */
export function parseEntitlement(text: string): {
  readonly name: Entitlement;
  readonly devices: DeviceGrant | undefined;
} {
  const devices = text === 'device' || text.startsWith('device=');
  const name = devices ? 'device' : text;
  if (!KNOWN.has(name)) throw invalidArgument(`unknown entitlement ${text}`);
  return {
    name: name as Entitlement,
    devices: devices ? parseDevices(text.slice('device='.length)) : undefined,
  };
}

function parseDevices(text: string): DeviceGrant {
  if (text === '') return { all: true, names: new Map() };
  const [device = '', ...options] = csvFields(text);
  let alias = '';
  for (const option of options) {
    const at = option.indexOf('=');
    if (at < 0) throw invalidArgument(`invalid device config ${JSON.stringify(option)}`);
    const key = option.slice(0, at);
    if (key !== 'alias') throw invalidArgument(`unknown device config key ${JSON.stringify(key)}`);
    alias = option.slice(at + 1);
  }
  return { all: false, names: new Map([alias === '' ? [device, ''] : [alias, device]]) };
}

/** The entitlements a request gets, each of which the daemon must allow. */
export function grantEntitlements(requested: readonly string[], allowed: ReadonlySet<Entitlement>): Grants {
  const names = new Set<Entitlement>();
  const devices = new Map<string, string>();
  let all = false;
  for (const { name, devices: own } of requested.map(parseEntitlement)) {
    if (!allowed.has(name)) {
      throw new BuildError(`granting entitlement ${name} is not allowed by build daemon configuration`, {
        hint: `start buildkitd with --allow-insecure-entitlement ${name}, or leave out --allow ${name}`,
      });
    }
    names.add(name);
    if (own?.all) all = true;
    for (const [device, stand] of own?.names ?? []) devices.set(device, stand);
  }
  return { names, devices: names.has('device') ? { all, names: devices } : undefined };
}

/** @throws BuildError when a step needs what the build was not granted. */
export function checkStep(
  step: { readonly networkHost: boolean; readonly insecure: boolean },
  granted: ReadonlySet<Entitlement>,
): void {
  const need = (wanted: boolean, name: Entitlement): void => {
    if (wanted && !granted.has(name)) {
      throw new BuildError(`${name} is not allowed`, { hint: `run the build with --allow ${name}` });
    }
  };
  need(step.networkHost, 'network.host');
  need(step.insecure, 'security.insecure');
}

/**
 * The devices that a step gets for those it asks for, by full name (FEATURES G26).
 * @throws BuildError for one that is not there, or that the build was not granted
 */
export function allowDevices(
  requests: readonly DeviceRequest[],
  grant: DeviceGrant | undefined,
  registry: Pick<DeviceRegistry, 'find' | 'isAutoAllowed' | 'isOnDemand'>,
): DeviceRequest[] {
  if (requests.length > MAX_DEVICES)
    throw invalidArgument(`${requests.length} devices are too many for a step, at most ${MAX_DEVICES}`);
  if (grant?.all) return [...requests];
  const allowed: DeviceRequest[] = [];
  const rest: DeviceRequest[] = [];
  for (const request of requests) {
    const aliased = grant?.names.get(request.name);
    if (aliased) allowed.push({ ...request, name: aliased });
    else if (registry.isOnDemand(request.name)) allowed.push(request);
    else rest.push(request);
  }
  const found = registry.find(rest);
  if (found.length === 0) return allowed;
  const named = [...(grant?.names ?? [])].filter(([, stand]) => stand === '').map(([name]) => name);
  const granted = new Set(registry.find(named.map((name) => ({ name, optional: false }))));
  const forbidden = found.filter((name) => !granted.has(name) && !registry.isAutoAllowed(name));
  if (forbidden.length > 0) {
    const [what, verb] = forbidden.length === 1 ? ['device', 'is'] : ['devices', 'are'];
    throw new BuildError(`${what} ${forbidden.join(', ')} ${verb} requested by the build but not allowed`, {
      hint: `run the build with ${forbidden.map((name) => `--allow device=${name}`).join(' ')}`,
    });
  }
  return [...allowed, ...found.map((name) => ({ name, optional: false }))];
}
