import { type Digest, isDigest } from '../base/digest.ts';
import { invalidArgument } from '../base/errors.ts';

/** A reference taken as it is written, `HOST/PATH[:TAG][@DIGEST]`: nothing is added to it. */
export interface ObjectReference {
  readonly text: string;
  readonly digest?: Digest;
}

/** @throws invalidArgument without a host, or without a tag or digest behind the path */
export function parseObjectReference(text: string): ObjectReference {
  if (text.includes('://')) throw invalidArgument('invalid reference');
  const slash = text.indexOf('/');
  const host = slash < 0 ? text : text.slice(0, slash);
  if (host === '') throw invalidArgument('hostname required');
  const path = slash < 0 ? '' : text.slice(slash);
  const at = path.search(/[:@]/);
  if (at < 0) throw invalidArgument('object required');
  const object = path.slice(at).split('@');
  if (object.length === 1) return { text };
  const digest = object.slice(1).join('@');
  if (!isDigest(digest)) throw invalidArgument(`invalid digest ${JSON.stringify(digest)} in reference`);
  return { text, digest };
}
