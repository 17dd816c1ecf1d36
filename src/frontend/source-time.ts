import { marshal } from '../llb/marshal.ts';
import { type Definition, Op, type SourceOp } from '../llb/ops.ts';
import type { State } from '../llb/state.ts';
import { source as sourceState } from '../llb/source.ts';
import { committerTime } from '../source/git-object.ts';
import type { FrontendBridge } from './build-bridge.ts';

const FILE_NAME = 'http.filename';

/**
 * Time of the one source of a tree, in seconds since 1970 (FEATURES H53): of a commit, as a server says, or of
 * the newest file of a downloaded archive. undefined when there is none, or more than one source.
 */
export async function sourceTime<R>(
  bridge: FrontendBridge<R>,
  state: State,
  logName: string,
): Promise<bigint | undefined> {
  const source = onlySource(marshal(state, { caps: bridge.caps }));
  if (!source) return undefined;
  const { http, git } = await bridge.describeSource(source, logName);
  if (git?.commitObject) return committerTime(git.commitObject);
  if (http?.lastModified) return BigInt(Math.floor(http.lastModified.getTime() / 1000));
  const name = source.attrs[FILE_NAME];
  if (!name || !/^https?:/.test(source.identifier)) return undefined;
  const ref = await bridge.solve(marshal(sourceState(source.identifier, source.attrs)), []);
  const newest = await ref?.newestIn(name);
  return newest === undefined ? undefined : BigInt(newest);
}

function onlySource({ def }: Definition): SourceOp | undefined {
  const sources = def.flatMap((bytes) => {
    const { op } = Op.decode(bytes);
    return op?.$case === 'source' ? [op.value] : [];
  });
  return sources.length === 1 ? sources[0] : undefined;
}
