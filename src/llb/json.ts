import { type GoField, goMap, goStruct, optional } from '../base/gojson.ts';
import type {
  BuildOp,
  CacheOpt,
  CDIDevice,
  ChownOpt,
  DiffOp,
  ExecOp,
  FileActionCopy,
  FileActionMkDir,
  FileActionMkFile,
  FileActionRm,
  FileActionSymlink,
  HostIP,
  MergeOp,
  Meta,
  Mount,
  PassthroughOp,
  ProxyEnv,
  SecretEnv,
  SecretOpt,
  SourceOp,
  TmpfsOpt,
  Ulimit,
  UserOpt,
} from './ops.ts';

/** Fields under their own names, left out when empty. */
function same<T>(...names: readonly (keyof T & string)[]): GoField<T>[] {
  return names.map((name) => optional<T>(name, (of) => of[name]));
}

function each<T>(shape: (of: T) => unknown): (list: readonly T[]) => unknown[] {
  return (list) => list.map(shape);
}

// The messages as Go's encoding/json writes their generated structs (FEATURES E5); cache keys are made of it.

const tmpfsJson = goStruct(...same<TmpfsOpt>('size'));
const cacheJson = goStruct(...same<CacheOpt>('ID', 'sharing'));
const grantJson = goStruct(...same<SecretOpt>('ID', 'uid', 'gid', 'mode', 'optional'));
const hostJson = goStruct(...same<HostIP>('Host', 'IP'));
const ulimitJson = goStruct(...same<Ulimit>('Name', 'Soft', 'Hard'));
const secretEnvJson = goStruct(...same<SecretEnv>('ID', 'name', 'optional'));
const deviceJson = goStruct(...same<CDIDevice>('name', 'optional'));

const proxyJson = goStruct<ProxyEnv>(
  optional('http_proxy', (p) => p.httpProxy),
  optional('https_proxy', (p) => p.httpsProxy),
  optional('ftp_proxy', (p) => p.ftpProxy),
  optional('no_proxy', (p) => p.noProxy),
  optional('all_proxy', (p) => p.allProxy),
);

const metaJson = goStruct<Meta>(
  ...same<Meta>('args', 'env', 'cwd', 'user'),
  optional('proxy_env', (m) => proxyJson(m.proxyEnv)),
  optional('extraHosts', (m) => each(hostJson)(m.extraHosts)),
  ...same<Meta>('hostname'),
  optional('ulimit', (m) => each(ulimitJson)(m.ulimit)),
  ...same<Meta>('cgroupParent', 'removeMountStubsRecursive', 'validExitCodes'),
);

const mountJson = goStruct<Mount>(
  ...same<Mount>('input', 'selector', 'dest', 'output', 'readonly', 'mountType'),
  optional('TmpfsOpt', (m) => tmpfsJson(m.TmpfsOpt)),
  optional('cacheOpt', (m) => cacheJson(m.cacheOpt)),
  optional('secretOpt', (m) => grantJson(m.secretOpt)),
  optional('SSHOpt', (m) => grantJson(m.SSHOpt)),
  ...same<Mount>('resultID', 'contentCache'),
);

export const execJson = goStruct<ExecOp>(
  optional('meta', (e) => metaJson(e.meta)),
  optional('mounts', (e) => each(mountJson)(e.mounts)),
  ...same<ExecOp>('network', 'security'),
  optional('secretenv', (e) => each(secretEnvJson)(e.secretenv)),
  optional('cdiDevices', (e) => each(deviceJson)(e.cdiDevices)),
);

/** Beside the generated structs: a user is written with its kind. */
function userJson(user: UserOpt | undefined): unknown {
  if (!user) return undefined;
  const kind = user.user;
  if (kind?.$case === 'byName') {
    return { User: { byName: goStruct(...same<typeof kind.value>('name', 'input'))(kind.value) } };
  }
  return { User: kind && kind.value !== 0 ? { byId: kind.value } : {} };
}

const ownerJson = goStruct<ChownOpt>(
  optional('user', (o) => userJson(o.user)),
  optional('group', (o) => userJson(o.group)),
);

export const copyJson = goStruct<FileActionCopy>(
  ...same<FileActionCopy>('src', 'dest'),
  optional('owner', (c) => ownerJson(c.owner)),
  ...same<FileActionCopy>(
    'mode',
    'followSymlink',
    'dirCopyContents',
    'attemptUnpackDockerCompatibility',
    'createDestPath',
    'allowWildcard',
    'allowEmptyWildcard',
    'timestamp',
  ),
  optional('include_patterns', (c) => c.includePatterns),
  optional('exclude_patterns', (c) => c.excludePatterns),
  ...same<FileActionCopy>('alwaysReplaceExistingDestPaths', 'modeStr'),
  optional('required_paths', (c) => c.requiredPaths),
);

export const mkfileJson = goStruct<FileActionMkFile>(
  ...same<FileActionMkFile>('path', 'mode', 'data'),
  optional('owner', (m) => ownerJson(m.owner)),
  ...same<FileActionMkFile>('timestamp'),
);

export const mkdirJson = goStruct<FileActionMkDir>(
  ...same<FileActionMkDir>('path', 'mode', 'makeParents'),
  optional('owner', (m) => ownerJson(m.owner)),
  ...same<FileActionMkDir>('timestamp'),
);

export const symlinkJson = goStruct<FileActionSymlink>(
  ...same<FileActionSymlink>('oldpath', 'newpath'),
  optional('owner', (s) => ownerJson(s.owner)),
  ...same<FileActionSymlink>('timestamp'),
);

export const rmJson = goStruct(...same<FileActionRm>('path', 'allowNotFound', 'allowWildcard'));

const inputJson = goStruct(...same<{ readonly input: bigint }>('input'));

export const mergeJson = goStruct<MergeOp>(optional('inputs', (m) => each(inputJson)(m.inputs)));

export const diffJson = goStruct<DiffOp>(
  optional('lower', (d) => inputJson(d.lower)),
  optional('upper', (d) => inputJson(d.upper)),
);

/** Without the inline definition, which no client sends and no daemon runs. */
export const buildJson = goStruct<BuildOp>(
  ...same<BuildOp>('builder'),
  optional('inputs', (b) =>
    goMap(Object.fromEntries(Object.entries(b.inputs).map(([name, input]) => [name, inputJson(input)]))),
  ),
  optional('attrs', (b) => goMap(b.attrs)),
);

export const passthroughJson = goStruct(...same<PassthroughOp>('id', 'outputs'));

export const sourceJson = goStruct<SourceOp>(
  ...same<SourceOp>('identifier'),
  optional('attrs', (s) => goMap(s.attrs)),
);
