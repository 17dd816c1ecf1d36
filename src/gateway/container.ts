import { randomUUID } from 'node:crypto';
import { BuildError, invalidArgument } from '../base/errors.ts';
import { CacheSharingOpt, type ExecOp, type Mount, MountType, NetMode, SecurityMode } from '../llb/ops.ts';
import { type InitMessage, NewContainerRequest } from '../pb/gateway.ts';
import type {
  Container,
  ContainerFileOptions,
  ContainerMount,
  ContainerOptions,
  ProcessOptions,
} from './container-types.ts';
import { runProcess } from './process.ts';
import { fileInfo, type ReferenceCalls } from './reference.ts';
import { platformMessage } from './sources.ts';
import type { FileInfo, FileRange, GatewayCallOptions, Reference } from './types.ts';

/** Opens a container on trees of a build (FEATURES I15). @throws BuildError */
export async function openContainer(
  calls: ReferenceCalls,
  options: ContainerOptions,
  idOf: (ref: Reference | undefined) => string,
): Promise<Container> {
  calls.caps.need('gateway.exec');
  if ((options.extraHosts?.length ?? 0) > 0) calls.caps.need('gateway.exec.extrahosts');
  const root = options.mounts.findIndex(({ dest }) => dest === '/');
  if (root < 0) throw invalidArgument('a container needs a mount at /');
  const id = randomUUID().replaceAll('-', '');
  await calls.bridge.newContainer(
    NewContainerRequest.fromPartial({
      ContainerID: id,
      Mounts: options.mounts.map((mount) => mountMessage(mount, idOf)),
      Network: { sandbox: NetMode.UNSET, host: NetMode.HOST, none: NetMode.NONE }[
        options.network ?? 'sandbox'
      ],
      platform: platformMessage(options.platform),
      extraHosts: (options.extraHosts ?? []).map(({ host, ip }) => ({ Host: host, IP: ip })),
      hostname: options.hostname ?? '',
    }),
    calls.callOptions(options),
  );
  return new RemoteContainer(calls, id, root);
}

function mountMessage(mount: ContainerMount, idOf: (ref: Reference | undefined) => string): Partial<Mount> {
  const { dest, readonly = false } = mount;
  switch (mount.type) {
    case undefined:
    case 'bind':
      return { dest, readonly, resultID: idOf(mount.ref), selector: mount.path ?? '' };
    case 'cache': {
      const cacheOpt = { ID: mount.id, sharing: SHARING[mount.sharing ?? 'shared'] };
      return { dest, readonly, mountType: MountType.CACHE, cacheOpt };
    }
    case 'tmpfs':
      return { dest, readonly, mountType: MountType.TMPFS };
    case 'secret': {
      const secretOpt = { ...lent(mount.id, mount.optional), mode: mount.mode ?? SECRET_MODE };
      return { dest, readonly, mountType: MountType.SECRET, secretOpt };
    }
    case 'ssh': {
      const SSHOpt = { ...lent(mount.id ?? 'default', mount.optional), mode: SSH_MODE };
      return { dest, readonly, mountType: MountType.SSH, SSHOpt };
    }
  }
}

const SHARING = {
  shared: CacheSharingOpt.SHARED,
  private: CacheSharingOpt.PRIVATE,
  locked: CacheSharingOpt.LOCKED,
};
const SECRET_MODE = 0o400;
const SSH_MODE = 0o600;

function lent(ID: string, optional = false) {
  return { ID, uid: 0, gid: 0, optional };
}

/** BuildKit's daemon asks for it. */
function absolute(path: string): string {
  return path.startsWith('/') ? path : `/${path}`;
}

class RemoteContainer implements Container {
  readonly #calls: ReferenceCalls;
  readonly #id: string;
  readonly #root: number;
  #released: Promise<void> | undefined;

  constructor(calls: ReferenceCalls, id: string, root: number) {
    this.#calls = calls;
    this.#id = id;
    this.#root = root;
  }

  async run(args: readonly string[], options: ProcessOptions = {}): Promise<number> {
    const { env = [], cwd = '/', user = '', security = 'sandbox', secretEnv = {} } = options;
    const secretenv = Object.entries(secretEnv).map(([name, { id, optional = false }]) => ({
      ID: id,
      name,
      optional,
    }));
    if (secretenv.length > 0) this.#calls.caps.need('gateway.exec.secretenv');
    if (options.signals) this.#calls.caps.need('gateway.exec.signals');
    const init: Partial<InitMessage> = {
      ContainerID: this.#id,
      Meta: { args: [...args], env: [...env], cwd, user } as NonNullable<ExecOp['meta']>,
      Security: security === 'insecure' ? SecurityMode.INSECURE : SecurityMode.SANDBOX,
      secretenv,
    };
    return await runProcess(this.#calls.bridge, init, options, this.#calls.callOptions(options));
  }

  async readFile(path: string, options: ContainerFileOptions & FileRange = {}): Promise<Uint8Array> {
    const request = { ...this.#files(options), FilePath: absolute(path), Range: undefined };
    const { Data } = await this.#calls.bridge.readFileContainer(request, this.#calls.callOptions(options));
    // BuildKit's daemon gives the whole file whatever range is asked for.
    const { offset = 0, length = Data.length } = options;
    return Data.subarray(offset, offset + length);
  }

  async readDir(
    path: string,
    options: ContainerFileOptions & { readonly include?: string } = {},
  ): Promise<FileInfo[]> {
    const request = {
      ...this.#files(options),
      DirPath: absolute(path),
      IncludePattern: options.include ?? '',
    };
    const { entries } = await this.#calls.bridge.readDirContainer(request, this.#calls.callOptions(options));
    return entries.map(fileInfo);
  }

  async stat(path: string, options: ContainerFileOptions = {}): Promise<FileInfo> {
    const request = { ...this.#files(options), Path: absolute(path) };
    const { stat } = await this.#calls.bridge.statFileContainer(request, this.#calls.callOptions(options));
    if (!stat) throw new BuildError(`failed to stat ${path}: the daemon's answer is empty`);
    return fileInfo(stat);
  }

  #files({ mount = this.#root }: ContainerFileOptions): { Ref: string; MountIndex: number } {
    this.#calls.caps.need('gateway.exec.filesystem');
    return { Ref: this.#id, MountIndex: mount };
  }

  release(options: GatewayCallOptions = {}): Promise<void> {
    this.#released ??= this.#calls.bridge
      .releaseContainer({ ContainerID: this.#id }, this.#calls.callOptions(options))
      .then(() => {});
    return this.#released;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.release().catch(() => {}); // the build's end takes it too
  }
}
