import { createHash } from 'node:crypto';
import { BuildError } from '../base/errors.ts';

/** A commit or an annotated tag, taken apart (FEATURES D37). */
export interface GitObject {
  readonly type: 'commit' | 'tag';
  /** Values by name, in order. */
  readonly headers: ReadonlyMap<string, readonly string[]>;
  readonly message: string;
  /** Armored signature, '' = not signed. */
  readonly signature: string;
  /** What the signature is about. */
  readonly signedData: Uint8Array;
  readonly raw: Uint8Array;
}

const REQUIRED = {
  commit: ['tree', 'author', 'committer'],
  tag: ['object', 'type', 'tag', 'tagger'],
} as const;
const TAG_SIGNATURES = ['-----BEGIN PGP SIGNATURE-----', '-----BEGIN SSH SIGNATURE-----'];

/** @throws BuildError for what is neither commit nor tag */
export function parseGitObject(raw: Uint8Array): GitObject {
  // Bytes as characters: names and messages may have any encoding.
  const lines = Buffer.from(raw).toString('latin1').split('\n');
  const type = lines[0]?.startsWith('object ') ? 'tag' : 'commit';
  const end = lines.indexOf('');
  const head = end < 0 ? lines : lines.slice(0, end);
  const body = end < 0 ? [] : lines.slice(end + 1);
  const headers = new Map<string, string[]>();
  const { signed, signature } = type === 'commit' ? splitHeaders(head) : { signed: head, signature: [] };
  for (const line of signed) {
    const space = line.indexOf(' ');
    if (space < 0) continue;
    const name = line.slice(0, space);
    headers.set(name, [...(headers.get(name) ?? []), text(line.slice(space + 1))]);
  }
  for (const name of REQUIRED[type])
    if (!headers.has(name)) throw new BuildError(`invalid ${type} object: missing ${name} header`);
  const cut = type === 'tag' ? body.findIndex((line) => TAG_SIGNATURES.includes(line)) : -1;
  const message = cut < 0 ? body : body.slice(0, cut);
  const signedLines = [...signed, ...(end < 0 ? [] : ['']), ...message];
  return {
    type,
    headers,
    message: text(message.join('\n').replace(/\n$/, '')),
    signature: text((cut < 0 ? signature : body.slice(cut)).join('\n')),
    signedData: Buffer.from(signedLines.join('\n') + (type === 'tag' ? '\n' : ''), 'latin1'),
    raw,
  };
}

function text(bytes: string): string {
  return Buffer.from(bytes, 'latin1').toString();
}

/** Headers of a commit without its signature, which goes on in lines that begin with a space. */
function splitHeaders(lines: readonly string[]): { signed: string[]; signature: string[] } {
  const signed: string[] = [];
  const signature: string[] = [];
  let inside = false;
  for (const line of lines) {
    const start = /^gpgsig(?:-sha256)? (.*)$/.exec(line)?.[1];
    if (start !== undefined) signature.push(start);
    else if (inside && line.startsWith(' ')) signature.push(line.slice(1));
    else signed.push(line);
    inside = start !== undefined || (inside && line.startsWith(' '));
  }
  return { signed, signature };
}

/** Name of the object, in the hash that `like` is in. */
export function objectName(object: GitObject, like: string): string {
  const algorithm = like.length === 64 ? 'sha256' : 'sha1';
  const header = `${object.type} ${object.raw.length}\0`;
  return createHash(algorithm).update(header).update(object.raw).digest('hex');
}

/** When the commit was made, in seconds since 1970; undefined when it does not say. */
export function committerTime(commit: Uint8Array): bigint | undefined {
  const [committer = ''] = parseGitObject(commit).headers.get('committer') ?? [];
  const rest = committer.slice(committer.lastIndexOf('>') + 1).trim();
  const seconds = /^(-?\d{1,18})\s+[-+]\d{4}(?:\s|$)/.exec(rest)?.[1];
  return seconds === undefined || !committer.includes('<') ? undefined : BigInt(seconds);
}
