import { hash } from 'node:crypto';
import { goJson } from '../base/gojson.ts';
import {
  buildJson,
  copyJson,
  mkdirJson,
  mkfileJson,
  passthroughJson,
  rmJson,
  symlinkJson,
} from '../llb/json.ts';
import {
  type CDIDevice,
  type ExecOp,
  type FileAction,
  type Mount,
  MountType,
  type Op,
  type SourceOp,
} from '../llb/ops.ts';
import { formatPlatformFull, type Platform } from '../oci/platform.ts';
import { keyedExec } from '../ops/exec-key.ts';

/** What a step says of itself, by kind of cause and subject: `env PATH`, `mount /cache`, `command `. */
export type Facts = Readonly<Record<string, string>>;

export type FactKind = 'command' | 'env' | 'mount' | 'option' | 'platform' | 'source';

/** Of one value; the rest is told by its digest. */
const MAX_VALUE = 1000;
/** Names of variables whose values are kept as digests only. */
const SECRET = /(?:_|^)(?:apikey|auth|credentials?|key|password|pword|passwd|secret|token)(?:_|$)/i;
const PUBLIC = /(?:_|^)(?:public|file|version)(?:_|$)/i;
const NETWORK = ['sandbox', 'host', 'none'];
const SECURITY = ['sandbox', 'insecure'];
const SHARING = ['shared', 'private', 'locked'];
/** Attributes that differ from build to build and mean nothing. */
const PASSING_ATTRS = new Set(['local.session', 'local.unique', 'local.sharedkeyhint']);

export function splitFact(key: string): { kind: FactKind; subject: string } {
  const space = key.indexOf(' ');
  return { kind: key.slice(0, space) as FactKind, subject: key.slice(space + 1) };
}

/** @param salt makes digests of hidden values useless elsewhere */
export function factsOf(op: Op, platform: Platform, salt: string): Facts {
  const facts: Record<string, string> = {};
  const put = (kind: FactKind, subject: string, value: string | number | boolean | undefined): void => {
    if (value === undefined || value === '' || value === false) return;
    facts[`${kind} ${subject}`] = clipped(String(value));
  };
  const body = op.op;
  switch (body?.$case) {
    case 'source':
      putSource(body.value, platform, put);
      break;
    case 'exec':
      putExec(body.value, platform, salt, put);
      break;
    case 'file':
      for (const [i, action] of body.value.actions.entries())
        putAction(action, body.value.actions.length > 1 ? `#${i + 1} ` : '', put);
      break;
    case 'build':
      put('option', 'definition', goJson(buildJson(body.value)));
      break;
    case 'passthrough':
      put('option', 'outputs', goJson(passthroughJson(body.value)));
      break;
    default: // merge and diff are their inputs
  }
  return facts;
}

type Put = (kind: FactKind, subject: string, value: string | number | boolean | undefined) => void;

function putSource({ identifier, attrs }: SourceOp, platform: Platform, put: Put): void {
  const plain = withoutCredentials(identifier);
  put('source', '', plain);
  if (/^(?:docker-image|oci-layout):/.test(plain)) put('platform', '', formatPlatformFull(platform));
  for (const [name, value] of Object.entries(attrs)) if (!PASSING_ATTRS.has(name)) put('option', name, value);
}

function putExec(exec: ExecOp, platform: Platform, salt: string, put: Put): void {
  const { meta, network, security, secretenv, cdiDevices } = keyedExec(exec);
  put('platform', '', formatPlatformFull(platform));
  const { args = [], env = [] } = meta ?? {};
  const isShell = args.length === 3 && args[1] === '-c';
  put('command', '', isShell ? args[2] : args.map(shown).join(' '));
  if (isShell) put('option', 'shell', args[0]);
  for (const entry of env) {
    const at = entry.indexOf('=');
    const name = at < 0 ? entry : entry.slice(0, at);
    put('env', name, hidden(name, entry.slice(at + 1), salt) || "''");
  }
  put('option', 'working directory', meta?.cwd);
  put('option', 'user', meta?.user);
  put('option', 'hostname', meta?.hostname);
  put('option', 'cgroup parent', meta?.cgroupParent);
  put('option', 'valid exit codes', meta?.validExitCodes.join(', '));
  put('option', 'network', network === 0 ? '' : (NETWORK[network] ?? network));
  put('option', 'security', security === 0 ? '' : (SECURITY[security] ?? security));
  for (const { Host } of meta?.extraHosts ?? []) put('option', `extra host ${Host}`, true);
  for (const { Name, Soft, Hard } of meta?.ulimit ?? []) put('option', `ulimit ${Name}`, `${Soft}:${Hard}`);
  for (const { ID, name, optional } of secretenv)
    put('mount', `secret in $${name}`, `id=${ID}${optional ? ',optional' : ''}`);
  for (const device of cdiDevices) putDevice(device, put);
  // What the key leaves out of mounts counts with the links to their inputs.
  for (const mount of exec.mounts) putMount(mount, keyedExec({ ...exec, mounts: [mount] }).mounts[0], put);
}

function putDevice({ name, optional }: CDIDevice, put: Put): void {
  put('option', `device ${name}`, optional ? 'optional' : 'required');
}

function putMount(mount: Mount, keyed: Mount | undefined, put: Put): void {
  if (!keyed) return; // the plain root
  const { mountType, readonly, dest } = mount;
  if (dest === '/' && mountType === MountType.BIND && !readonly && mount.selector === '') return;
  const kind = ['bind', 'secret', 'ssh', 'cache', 'tmpfs'][mountType] ?? String(mountType);
  const granted = keyed.secretOpt ?? keyed.SSHOpt;
  const cacheId = keyed.cacheOpt?.ID;
  const fields = [
    `type=${kind}`,
    ...(granted ? [`id=${granted.ID}`, `mode=${granted.mode.toString(8)}`] : []),
    ...(granted && (granted.uid || granted.gid) ? [`uid=${granted.uid}`, `gid=${granted.gid}`] : []),
    ...(granted?.optional ? ['optional'] : []),
    ...(cacheId ? [`id=${cacheId}`] : []),
    ...(keyed.cacheOpt?.sharing ? [`sharing=${SHARING[keyed.cacheOpt.sharing]}`] : []),
    ...(keyed.TmpfsOpt?.size ? [`size=${keyed.TmpfsOpt.size}`] : []),
    ...(mount.selector !== '' && mount.input !== -1n ? [`source=${mount.selector}`] : []),
    ...(readonly ? ['readonly'] : []),
  ];
  put('mount', dest, fields.join(','));
}

function putAction({ action }: FileAction, prefix: string, put: Put): void {
  if (!action) return;
  const { $case: kind, value } = action;
  const json = actionJson(action);
  put('option', `${prefix}action`, kind);
  for (const [name, field] of Object.entries(json ?? {})) {
    if (field === undefined || field === null) continue;
    const label = `${prefix}${ACTION_FIELDS[name] ?? name}`;
    if (name === 'data' && kind === 'mkfile') put('option', label, digestText(value.data));
    else if (name === 'mode' && typeof field === 'number')
      put('option', label, field < 0 ? '' : field.toString(8));
    else put('option', label, typeof field === 'object' ? goJson(field) : String(field));
  }
}

const ACTION_FIELDS: Readonly<Record<string, string>> = {
  src: 'source',
  dest: 'destination',
  data: 'content',
  modeStr: 'mode',
  include_patterns: 'include',
  exclude_patterns: 'exclude',
};

function actionJson(action: NonNullable<FileAction['action']>): Record<string, unknown> | null {
  switch (action.$case) {
    case 'copy':
      return copyJson(action.value);
    case 'mkfile':
      return mkfileJson(action.value);
    case 'mkdir':
      return mkdirJson(action.value);
    case 'symlink':
      return symlinkJson(action.value);
    case 'rm':
      return rmJson(action.value);
    default:
      return action satisfies never;
  }
}

/** A value that is no secret, or a digest of it that tells another one apart. */
function hidden(name: string, value: string, salt: string): string {
  if (!SECRET.test(name) || PUBLIC.test(name)) return value;
  return `(hidden, ${hash('sha256', `${salt}\0${name}\0${value}`).slice(0, 8)})`;
}

function clipped(text: string): string {
  if (text.length <= MAX_VALUE) return text;
  return `${text.slice(0, MAX_VALUE)}… (${digestText(text)})`;
}

function digestText(data: string | Uint8Array): string {
  return `sha256:${hash('sha256', data).slice(0, 12)}`;
}

function shown(arg: string): string {
  return /^[\w@%+=:,./-]+$/.test(arg) ? arg : JSON.stringify(arg);
}

/** Without the user and password that an address may hold. */
function withoutCredentials(identifier: string): string {
  return identifier.replace(/^([a-z+-]+:\/\/(?:[a-z]+:\/\/)?)[^/@\s]*:[^/@\s]*@/, '$1');
}
