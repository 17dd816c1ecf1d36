import { BuildError, Code, invalidArgument } from '../base/errors.ts';
import { type FlagValues, parseBool } from '../base/flags.ts';
import { csvPairs } from '../client/csv.ts';
import { policyFromJson } from '../client/source-policy.ts';
import type { SourcePolicy } from '../client/source-policy-types.ts';
import type { SecretSource, SshSource } from '../client/solve-types.ts';
import { parseEntitlement } from '../daemon/entitlements.ts';

/** The flags of `build` as requests (FEATURES L5-L9). */
type Env = Readonly<Record<string, string | undefined>>;

/** Flags whose feature does not exist yet. */
const LATER: Readonly<Record<string, string>> = {
  'proxy-network': 'the proxy network is',
  'registry-auth-tlscontext': 'TLS settings of token servers are',
  'debug-json-cache-metrics': 'cache metrics are',
};

/** @throws BuildError that names the flag. */
export function refuseLater(flags: FlagValues): void {
  for (const [name, feature] of Object.entries(LATER))
    if (flags.isSet(name) && flags.string(name) !== '' && flags.string(name) !== 'false')
      throw new BuildError(`--${name} cannot be used yet: ${feature} not built`, {
        code: Code.unimplemented,
      });
}

const BUILD_ARG = 'build-arg:';
/** Variables that reach the build without being asked for. */
const PASSED_ON = ['SOURCE_DATE_EPOCH'];

/** `k=v` options of the frontend; a build argument without value takes the environment's. */
export function parseOpts(opts: readonly string[], env: Env): Record<string, string> {
  const attrs: Record<string, string> = {};
  for (const name of PASSED_ON) if (env[name] !== undefined) attrs[BUILD_ARG + name] = env[name];
  for (const opt of opts) {
    const name = opt.startsWith(BUILD_ARG) ? opt.slice(BUILD_ARG.length) : '';
    if (name !== '' && !name.includes('=')) {
      if (env[name] !== undefined) attrs[opt] = env[name];
    } else {
      const [key, value] = pair(opt, 'invalid opt');
      attrs[key] = value;
    }
  }
  return attrs;
}

/** `name=folder`; each must be one. */
export function parseLocals(locals: readonly string[], statSync: typeof import('node:fs').statSync) {
  const dirs: Record<string, string> = {};
  for (const local of locals) {
    const [name, dir] = pair(local, 'invalid local');
    const stat = statSync(dir, { throwIfNoEntry: false });
    if (!stat) throw invalidArgument(`invalid local: stat ${dir}: no such file or directory`);
    if (!stat.isDirectory()) throw invalidArgument(`invalid local: ${dir}: not a directory`);
    dirs[name] = dir;
  }
  return dirs;
}

/** `name=folder` of OCI layouts; each must be one. */
export function parseOciLayouts(layouts: readonly string[], statSync: typeof import('node:fs').statSync) {
  const dirs: Record<string, string> = {};
  for (const layout of layouts) {
    const at = layout.indexOf('=');
    if (at < 0)
      throw invalidArgument(
        `invalid oci-layout: oci-layout option must be 'id=path/to/layout', instead had invalid ${layout}`,
      );
    const dir = layout.slice(at + 1);
    const problem = (text: string): BuildError =>
      invalidArgument(`invalid oci-layout: oci-layout context at ${dir} failed to initialize: ${text}`);
    const stat = statSync(dir, { throwIfNoEntry: false });
    if (!stat) throw problem(`stat ${dir}: no such file or directory`);
    if (!stat.isDirectory()) throw problem(`${dir} is no directory`);
    dirs[layout.slice(0, at)] = dir;
  }
  return dirs;
}

function pair(text: string, what: string): [string, string] {
  const at = text.indexOf('=');
  if (at < 0) throw invalidArgument(`${what}: invalid value ${text}`);
  return [text.slice(0, at), text.slice(at + 1)];
}

export function parseSecret(text: string): SecretSource {
  let type = '';
  const found: { id: string; file?: string; env?: string } = { id: '' };
  for (const [key, value, field] of csvPairs(text, (f) => `invalid field '${f}' must be a key=value pair`)) {
    if (key === 'type') {
      if (value !== 'file' && value !== 'env')
        throw invalidArgument(`unsupported secret type ${JSON.stringify(value)}`);
      type = value;
    } else if (key === 'id') found.id = value;
    else if (key === 'source' || key === 'src') found.file = value;
    else if (key === 'env') found.env = value;
    else throw invalidArgument(`unexpected key '${key}' in '${field}'`);
  }
  if (type !== 'env' || found.env !== undefined) return found;
  return { id: found.id, ...(found.file === undefined ? {} : { env: found.file }) };
}

export function parseSsh(text: string): SshSource {
  const at = text.indexOf('=');
  const id = at < 0 ? text : text.slice(0, at);
  const paths: string[] = [];
  let raw = false;
  for (const part of at < 0 ? [] : text.slice(at + 1).split(',')) {
    if (!part.startsWith('raw=')) {
      paths.push(part);
      continue;
    }
    const value = parseBool(part.slice('raw='.length));
    if (value === undefined) throw invalidArgument(`invalid value for 'raw': ${part.slice('raw='.length)}`);
    raw = value;
  }
  if (raw && paths.length !== 1)
    throw invalidArgument(`raw mode must supply exactly one socket path for ${JSON.stringify(id)}`);
  return { id, paths, raw };
}

export function checkAllow(names: readonly string[]): void {
  for (const name of names) parseEntitlement(name);
}

/** The rules of a file. @throws BuildError that names it */
export function readSourcePolicy(path: string, readFile: (path: string) => Buffer): SourcePolicy {
  let bytes: Buffer;
  try {
    bytes = readFile(path);
  } catch (error) {
    throw BuildError.wrap(error, 'failed to read source-policy-file');
  }
  try {
    const policy: unknown = JSON.parse(bytes.toString());
    policyFromJson(policy);
    return policy as SourcePolicy;
  } catch (error) {
    throw BuildError.wrap(error, `failed to unmarshal source-policy-file ${JSON.stringify(path)}`);
  }
}
