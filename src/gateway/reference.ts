import { BuildError } from '../base/errors.ts';
import type { Stat } from '../pb/fsutil.ts';
import type { LLBBridgeDefinition } from '../pb/gateway.ts';
import type { CallOptions, Client as TypedClient } from '../rpc/types.ts';
import { fileType, unixPermissions } from '../session/fsutil/stat.ts';
import type { Caps } from './caps.ts';
import type { FileInfo, FileRange, GatewayCallOptions, Reference } from './types.ts';

/** What references speak through. */
export interface ReferenceCalls {
  readonly bridge: TypedClient<typeof LLBBridgeDefinition>;
  readonly caps: Caps;
  readonly callOptions: (options: GatewayCallOptions) => CallOptions;
}

/** A tree that the daemon holds for this build. */
export class RemoteReference implements Reference {
  readonly id: string;
  readonly definition: Uint8Array | undefined;
  readonly #calls: ReferenceCalls;

  constructor(calls: ReferenceCalls, id: string, definition: Uint8Array | undefined) {
    this.#calls = calls;
    this.id = id;
    this.definition = definition;
  }

  /** True for a reference of the same build. */
  belongsTo(calls: ReferenceCalls): boolean {
    return this.#calls === calls;
  }

  async evaluate(options: GatewayCallOptions = {}): Promise<void> {
    const { bridge, caps, callOptions } = this.#calls;
    if (caps.has('gateway.evaluate')) await bridge.evaluate({ Ref: this.id }, callOptions(options));
    else await this.stat('.', options); // whoever asks for a file has the steps run
  }

  async readFile(path: string, options: GatewayCallOptions & FileRange = {}): Promise<Uint8Array> {
    const { bridge, callOptions } = this.#calls;
    if (options.length === 0) return new Uint8Array();
    const request = { Ref: this.id, FilePath: path, Range: fileRange(options), MountIndex: 0 };
    return (await bridge.readFile(request, callOptions(options))).Data;
  }

  async readDir(
    path: string,
    options: GatewayCallOptions & { readonly include?: string } = {},
  ): Promise<FileInfo[]> {
    const { bridge, caps, callOptions } = this.#calls;
    caps.need('readdir');
    const request = { Ref: this.id, DirPath: path, IncludePattern: options.include ?? '', MountIndex: 0 };
    return (await bridge.readDir(request, callOptions(options))).entries.map(fileInfo);
  }

  async stat(path: string, options: GatewayCallOptions = {}): Promise<FileInfo> {
    const { bridge, caps, callOptions } = this.#calls;
    caps.need('statfile');
    const { stat } = await bridge.statFile({ Ref: this.id, Path: path, MountIndex: 0 }, callOptions(options));
    if (!stat) throw new BuildError(`failed to stat ${path}: the daemon's answer is empty`);
    return fileInfo(stat);
  }
}

/** On the wire a length of 0 means all that follows. */
function fileRange({ offset = 0, length = 0 }: FileRange) {
  if (offset === 0 && length === 0) return undefined;
  return { Offset: BigInt(offset), Length: BigInt(length) };
}

export function fileInfo(stat: Stat): FileInfo {
  const { mode } = stat;
  return {
    path: stat.path,
    type: fileType(mode),
    mode: unixPermissions(mode),
    uid: stat.uid,
    gid: stat.gid,
    size: Number(stat.size),
    modTime: stat.modTime,
    linkname: stat.linkname,
  };
}
