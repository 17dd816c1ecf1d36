import { BuildError } from '../../base/errors.ts';
import { type DecodedOf, integer, list, object, text, texts, unsigned, yesOrNo } from './decode.ts';
import { checkDeviceName, checkKind, splitKind } from './names.ts';

const deviceNode = object({
  path: text,
  hostPath: text,
  type: text,
  major: integer,
  minor: integer,
  fileMode: unsigned,
  permissions: text,
  uid: unsigned,
  gid: unsigned,
});
const hook = object({ hookName: text, path: text, args: list(text), env: list(text), timeout: integer });
const hostMount = object({ hostPath: text, containerPath: text, options: list(text), type: text });
const intelRdt = object({
  closID: text,
  l3CacheSchema: text,
  memBwSchema: text,
  schemata: list(text),
  enableMonitoring: yesOrNo,
});
const edits = object({
  env: list(text),
  deviceNodes: list(deviceNode),
  netDevices: list(object({ hostInterfaceName: text, name: text })),
  hooks: list(hook),
  mounts: list(hostMount),
  intelRdt,
  additionalGids: list(unsigned),
});
const specFile = object({
  cdiVersion: text,
  kind: text,
  annotations: texts,
  devices: list(object({ name: text, annotations: texts, containerEdits: edits })),
  containerEdits: edits,
});

export type DeviceNode = DecodedOf<typeof deviceNode>;
export type CdiHook = DecodedOf<typeof hook>;
/** What a device changes in a container. */
export type ContainerEdits = DecodedOf<typeof edits>;

/** A specification of the Container Device Interface: devices of one kind. */
export interface CdiSpec {
  /** `vendor/class`. */
  readonly kind: string;
  readonly annotations: Readonly<Record<string, string>>;
  /** Made once for each specification that has a device in use. */
  readonly edits: ContainerEdits;
  readonly devices: readonly CdiDevice[];
}

export interface CdiDevice {
  /** Without the kind. */
  readonly name: string;
  readonly annotations: Readonly<Record<string, string>>;
  readonly edits: ContainerEdits;
}

export const HOOK_NAMES = [
  'prestart',
  'createRuntime',
  'createContainer',
  'startContainer',
  'poststart',
  'poststop',
] as const;

const MAX_CLOS_ID_BYTES = 4095;

/** Checks what was read from a specification. @throws BuildError that says where it is wrong */
export function cdiSpec(value: unknown): CdiSpec {
  if (value === null || value === undefined) throw new BuildError('no data');
  const file = specFile(value, '');
  const kind = file.kind ?? '';
  checkVersion(file.cdiVersion ?? '', file);
  checkKind(kind);
  checkEdits(file.containerEdits ?? {});
  const names = new Set<string>();
  const devices = (file.devices ?? []).map((device): CdiDevice => {
    const name = device.name ?? '';
    const own = device.containerEdits ?? {};
    checkDeviceName(name);
    if (names.has(name)) throw new BuildError(`multiple devices ${JSON.stringify(name)}`);
    names.add(name);
    if (!changesSomething(own)) throw new BuildError(`device ${JSON.stringify(name)} has no edits`);
    try {
      checkEdits(own);
    } catch (error) {
      throw BuildError.wrap(error, `invalid device ${JSON.stringify(name)}`);
    }
    return { name, annotations: device.annotations ?? {}, edits: own };
  });
  if (devices.length === 0) throw new BuildError('no devices');
  return { kind, annotations: file.annotations ?? {}, edits: file.containerEdits ?? {}, devices };
}

function changesSomething(own: ContainerEdits): boolean {
  return Object.values(own).some((value) => !Array.isArray(value) || value.length > 0);
}

function checkEdits(own: ContainerEdits): void {
  checkEnv(own.env ?? [], 'containerEdits');
  for (const { path, type = '', permissions = '' } of own.deviceNodes ?? []) {
    if (!path) throw new BuildError('device node without path');
    if (!['', 'b', 'c', 'u', 'p'].includes(type))
      throw new BuildError(`device ${JSON.stringify(path)}: invalid type ${JSON.stringify(type)}`);
    if (!/^[rwm]*$/.test(permissions))
      throw new BuildError(
        `device ${JSON.stringify(path)}: invalid permissions ${JSON.stringify(permissions)}`,
      );
  }
  for (const { hookName = '', path, env } of own.hooks ?? []) {
    if (!(HOOK_NAMES as readonly string[]).includes(hookName))
      throw new BuildError(`invalid hook name ${JSON.stringify(hookName)}`);
    if (!path) throw new BuildError(`hook ${JSON.stringify(hookName)} without path`);
    checkEnv(env ?? [], `hook ${JSON.stringify(hookName)}`);
  }
  for (const { hostPath, containerPath } of own.mounts ?? []) {
    if (!hostPath) throw new BuildError('mount without hostPath');
    if (!containerPath) throw new BuildError('mount without containerPath');
  }
  checkNetDevices(own.netDevices ?? []);
  const closId = own.intelRdt?.closID ?? '';
  const isName = !/[/\n]/.test(closId) && closId !== '.' && closId !== '..';
  if (closId !== '/' && (!isName || closId.length > MAX_CLOS_ID_BYTES))
    throw new BuildError('invalid closID');
}

function checkEnv(env: readonly string[], where: string): void {
  for (const entry of env) {
    if (entry.indexOf('=') <= 0)
      throw new BuildError(`${where}: invalid environment variable ${JSON.stringify(entry)}`);
  }
}

function checkNetDevices(devices: NonNullable<ContainerEdits['netDevices']>): void {
  for (const field of ['hostInterfaceName', 'name'] as const) {
    const seen = new Set<string>();
    for (const { [field]: value } of devices) {
      if (!value) throw new BuildError(`network device without ${field}`);
      if (seen.has(value)) throw new BuildError(`two network devices with ${field} ${JSON.stringify(value)}`);
      seen.add(value);
    }
  }
}

const VERSIONS = '0.1.0 0.2.0 0.3.0 0.4.0 0.5.0 0.6.0 0.7.0 0.8.0 1.0.0 1.1.0'.split(' ');
const OLDEST = '0.3.0';

/** A file must name a version that has everything it uses. */
function checkVersion(written: string, file: DecodedOf<typeof specFile>): void {
  const version = written.replace(/^v/, '');
  const at = VERSIONS.indexOf(version);
  if (at < 0) throw new BuildError(`invalid version ${JSON.stringify(written)}`);
  const needed = neededVersion(file);
  if (at < VERSIONS.indexOf(needed)) throw new BuildError(`the spec version must be at least v${needed}`);
}

function neededVersion(file: DecodedOf<typeof specFile>): string {
  const devices = file.devices ?? [];
  const all = [file.containerEdits ?? {}, ...devices.map(({ containerEdits }) => containerEdits ?? {})];
  const uses = (has: (one: ContainerEdits) => boolean): boolean => all.some(has);
  const rdt = (one: ContainerEdits): boolean =>
    one.intelRdt?.schemata !== undefined || one.intelRdt?.enableMonitoring === true;
  if (uses((one) => rdt(one) || (one.netDevices ?? []).length > 0)) return '1.1.0';
  if (uses((one) => one.intelRdt !== undefined || (one.additionalGids ?? []).length > 0)) return '0.7.0';
  const annotated = [file, ...devices].some(({ annotations = {} }) => Object.keys(annotations).length > 0);
  const { vendor, class: name } = splitKind(file.kind ?? '');
  if (annotated || (vendor !== '' && name.includes('.'))) return '0.6.0';
  if (devices.some((device) => /^[0-9]/.test(device.name ?? ''))) return '0.5.0';
  if (uses((one) => (one.deviceNodes ?? []).some(({ hostPath }) => hostPath))) return '0.5.0';
  if (uses((one) => (one.mounts ?? []).some(({ type }) => type))) return '0.4.0';
  return OLDEST;
}
