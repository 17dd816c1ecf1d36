import { BuildError } from '../../base/errors.ts';
import { suggestError } from '../suggest.ts';
import { cut, lower, parseBool, parseUint, quote } from '../text.ts';
import { csvFields } from './csv.ts';
import type { MountType, RunDevice, RunMount, Sharing } from './types.ts';
import { memoryBytes } from './units.ts';

const TYPES: readonly MountType[] = ['bind', 'cache', 'tmpfs', 'secret', 'ssh'];
const SHARING: readonly Sharing[] = ['shared', 'private', 'locked'];
const KEYS = [
  'type from source target readonly id sharing required size mode uid gid src dst destination ro rw readwrite env',
].flatMap((list) => list.split(' '));
/** Types whose mode and owner can be set. */
const WITH_OWNER: readonly MountType[] = ['secret', 'ssh', 'cache'];

type Draft = { -readonly [K in keyof RunMount]: RunMount[K] } & { accessSet: boolean };

/**
 * The `from` of a `--mount` value, read before variables have values. A missing one is ''.
 * @throws {BuildError} when it holds a variable
 */
export function mountFrom(value: string): string {
  let from = '';
  for (const field of mountFields(value)) {
    const [key, source] = cut(field, '=');
    if (lower(key) !== 'from' || source === undefined) continue;
    const dollar = source.indexOf('$');
    if (dollar >= 0 && dollar !== source.length - 1)
      throw new BuildError("'from' doesn't support variable expansion, define alias stage instead");
    from = source;
  }
  return from;
}

/** Reads a `--mount` value; keys are taken in order, so `type` must come before what depends on it. */
export function parseMount(value: string, expand: (word: string) => string): RunMount {
  const draft: Draft = {
    type: 'bind',
    from: '',
    source: '',
    target: '',
    readonly: false,
    sizeLimit: 0n,
    id: '',
    required: false,
    accessSet: false,
  };
  for (const field of mountFields(value)) {
    const [key, text] = cut(field, '=');
    const name = lower(key);
    if (text === undefined) setBare(draft, name, field);
    else setField(draft, name, expand(text), field);
  }
  const { accessSet, ...mount } = draft;
  if (!accessSet) mount.readonly = mount.type !== 'cache' && mount.type !== 'tmpfs';
  check(mount);
  return mount;
}

function mountFields(value: string): string[] {
  try {
    return csvFields(value);
  } catch (error) {
    throw BuildError.wrap(error, 'failed to parse csv mounts');
  }
}

function setBare(draft: Draft, name: string, field: string): void {
  if (name === 'readonly' || name === 'ro') setAccess(draft, true);
  else if (name === 'readwrite' || name === 'rw') setAccess(draft, false);
  else if (name === 'required') setRequired(draft, name, 'true');
  else throw new BuildError(`invalid field '${field}' must be a key=value pair`);
}

function setField(draft: Draft, name: string, value: string, field: string): void {
  switch (name) {
    case 'type':
      draft.type = oneOf(TYPES, value, 'unsupported mount type');
      return;
    case 'from':
      draft.from = value;
      return;
    case 'source':
    case 'src':
      draft.source = value;
      return;
    case 'target':
    case 'dst':
    case 'destination':
      draft.target = value;
      return;
    case 'readonly':
    case 'ro':
      setAccess(draft, bool(name, value));
      return;
    case 'readwrite':
    case 'rw':
      setAccess(draft, !bool(name, value));
      return;
    case 'required':
      setRequired(draft, name, value);
      return;
    case 'size':
      setSize(draft, name, value);
      return;
    case 'id':
      draft.id = value;
      return;
    case 'sharing':
      draft.sharing = oneOf(SHARING, value, 'unsupported sharing value');
      return;
    case 'mode':
    case 'uid':
    case 'gid':
      draft[name] = number(name, value);
      return;
    case 'env':
      draft.env = value;
      return;
    default:
      throw suggestError(`unexpected key '${name}' in '${field}'`, name, KEYS, true);
  }
}

function setAccess(draft: Draft, readonly: boolean): void {
  draft.readonly = readonly;
  draft.accessSet = true;
}

function setRequired(draft: Draft, name: string, value: string): void {
  if (draft.type !== 'secret' && draft.type !== 'ssh') throw unexpectedKey(name, draft.type);
  draft.required = bool(name, value);
}

function setSize(draft: Draft, name: string, value: string): void {
  if (draft.type !== 'tmpfs') throw unexpectedKey(name, draft.type);
  const bytes = memoryBytes(value);
  if (bytes === undefined) throw new BuildError(`invalid value for ${name}: ${value}`);
  draft.sizeLimit = bytes;
}

function unexpectedKey(name: string, type: MountType): BuildError {
  return new BuildError(`unexpected key '${name}' for mount type '${type}'`);
}

function oneOf<T extends string>(allowed: readonly T[], value: string, problem: string): T {
  const found = allowed.find((item) => item === lower(value));
  if (found === undefined) throw suggestError(`${problem} ${quote(value)}`, value, allowed, true);
  return found;
}

function bool(name: string, value: string): boolean {
  const parsed = parseBool(value);
  if (parsed === undefined) throw new BuildError(`invalid value for ${name}: ${value}`);
  return parsed;
}

function number(name: 'mode' | 'uid' | 'gid', value: string): number {
  const parsed = parseUint(value, name === 'mode' ? 8 : 10);
  if (parsed === undefined) throw new BuildError(`invalid value ${value} for ${name}`);
  return Number(parsed);
}

function check(mount: RunMount): void {
  for (const key of ['mode', 'uid', 'gid'] as const) {
    if (mount[key] !== undefined && !WITH_OWNER.includes(mount.type))
      throw new BuildError(`${key} not allowed for ${quote(mount.type)} type mounts`);
  }
  if (mount.type === 'secret') checkSecret(mount);
  if (mount.sharing !== undefined && mount.type !== 'cache')
    throw new BuildError(`invalid cache sharing set for ${mount.type} mount`);
}

function checkSecret(mount: RunMount): void {
  if (mount.from !== '') throw new BuildError('secret mount should not have a from');
  if (mount.sharing !== undefined) throw new BuildError('secret mount should not define sharing');
  if (mount.source === '' && mount.target === '' && mount.id === '')
    throw new BuildError('invalid secret mount. one of source, target required');
  if (mount.source !== '' && mount.id !== '') throw new BuildError("both source and id can't be set");
}

/** `[name=]NAME[,required[=bool]]` of `RUN --device`. */
export function parseDevice(value: string): RunDevice {
  let fields: string[];
  try {
    fields = csvFields(value);
  } catch (error) {
    throw BuildError.wrap(error, 'failed to parse csv devices');
  }
  let name = '';
  let required = false;
  for (const field of fields) {
    const [key, text] = cut(field, '=');
    const word = lower(key);
    if (word === 'required') required = text === undefined ? true : bool(word, text);
    else if (word === 'name' && text !== undefined) {
      if (name !== '') throw new BuildError(`device name already set to ${name}`);
      name = text;
    } else if (name === '') name = field;
    else if (text === undefined) throw new BuildError(`invalid field '${field}' must be a key=value pair`);
    else throw suggestError(`unexpected key '${word}' in '${field}'`, word, ['name', 'required'], true);
  }
  return { name, required };
}
