import type { Platform } from '../oci/platform-type.ts';
import type { ProcessIo } from './process-types.ts';
import type { FileInfo, FileRange, GatewayCallOptions, Reference } from './types.ts';

/** What is mounted in a container. The mount at `/` is its root. */
export type ContainerMount = {
  readonly dest: string;
  readonly readonly?: boolean;
} & (
  | {
      readonly type?: 'bind';
      /** undefined: the empty tree. What is written goes with the container. */
      readonly ref?: Reference | undefined;
      /** Only this path of it. */
      readonly path?: string;
    }
  | {
      readonly type: 'cache';
      readonly id: string;
      /** Default `shared`. */
      readonly sharing?: 'shared' | 'private' | 'locked';
    }
  | { readonly type: 'tmpfs' }
  /** From the client of the build. */
  | { readonly type: 'secret'; readonly id: string; readonly optional?: boolean; readonly mode?: number }
  | { readonly type: 'ssh'; readonly id?: string; readonly optional?: boolean }
);

/** A container to be. */
export interface ContainerOptions extends GatewayCallOptions {
  readonly mounts: readonly ContainerMount[];
  /** Default `sandbox`; `host` is an entitlement. */
  readonly network?: 'sandbox' | 'host' | 'none';
  readonly hostname?: string;
  readonly extraHosts?: readonly { readonly host: string; readonly ip: string }[];
  /** Default: that of the daemon. */
  readonly platform?: Platform | string;
}

/** A process to be. */
export interface ProcessOptions extends ProcessIo, GatewayCallOptions {
  /** `NAME=value` */
  readonly env?: readonly string[];
  /** Default `/`. */
  readonly cwd?: string;
  readonly user?: string;
  /** `insecure` is an entitlement. */
  readonly security?: 'sandbox' | 'insecure';
  /** Variables that are secrets of the client, by name. */
  readonly secretEnv?: Readonly<Record<string, { readonly id: string; readonly optional?: boolean }>>;
}

/** Trees of a build to run processes in. It lasts until it is released, or the build ends. */
export interface Container extends AsyncDisposable {
  /**
   * Runs a process to its end. The first one is the container's own: others run beside it, from its start
   * (`onStarted`), and end with it; none runs after it. BuildKit's own daemon also ends them all when one of them has
   * failed. Aborting the signal ends a process.
   * @returns its exit code
   * @throws BuildError when it could not be started, if the runtime says so and not by an exit code
   */
  run(args: readonly string[], options?: ProcessOptions): Promise<number>;
  /** A file as it is now; of the root, or of another mount. */
  readFile(path: string, options?: ContainerFileOptions & FileRange): Promise<Uint8Array>;
  readDir(path: string, options?: ContainerFileOptions & { readonly include?: string }): Promise<FileInfo[]>;
  stat(path: string, options?: ContainerFileOptions): Promise<FileInfo>;
  release(options?: GatewayCallOptions): Promise<void>;
}

/** Which files of a container are meant. */
export interface ContainerFileOptions extends GatewayCallOptions {
  /** Index of the mount that paths are in; default that of `/`. */
  readonly mount?: number;
}
