import { createHash } from 'node:crypto';
import { closeSync, createReadStream } from 'node:fs';
import { pipeline } from 'node:stream/promises';
import { createGunzip } from 'node:zlib';
import { type Digest, isDigest } from '../base/digest.ts';
import { BuildError, Code, hasCode } from '../base/errors.ts';
import { SharedTask } from '../base/shared-task.ts';
import type { RecordMetadata } from '../cache/metadata.ts';
import type { ImmutableRef, RefManager, RefMounts } from '../cache/ref.ts';
import { connectionFailed, StatusError } from '../registry/errors.ts';
import type { HttpClient } from '../registry/http.ts';
import type { HttpResponse } from '../registry/response.ts';
import { withRetries } from '../registry/retry.ts';
import type { OpContext } from '../solver/types.ts';
import { openRootfs } from '../sys/rootfs.ts';
import type { HttpFound, HttpMemo, HttpMetadata } from './http-memo.ts';
import {
  downloadKey,
  httpFileName,
  type HttpHeader,
  type HttpSignature,
  type HttpSourceSpec,
  shownUrl,
} from './http-spec.ts';
import { DetachedSignature } from './sign/pgp-signature.ts';
import { makeSingleFile } from './single-file.ts';
import type { SourceInstance, SourceKey } from './source.ts';

/** Host of URLs that name an upload of the client. */
const UPLOAD_HOST = 'buildkit-session';
const MAX_SUFFIX_BYTES = 4 * 1024;
const READ_BYTES = 1024 * 1024;

/** Metadata of downloaded files. */
const keyUrl = 'http.url';
const keyChecksum = 'http.checksum';
const keyEtag = 'http.etag';
const keyModTime = 'http.modtime';
const keyName = 'http.filename';

/** Key of FEATURES E12, which is the graph's affair. */
export type HttpKey = (input: {
  filename: string;
  perm: number;
  uid: number;
  gid: number;
  checksum: Digest;
  lastModified?: Date;
  authHeaderSecret?: string;
  header?: readonly HttpHeader[];
}) => Digest;

/** What of the running step the source needs. */
export type HttpContext = Pick<OpContext, 'signal' | 'sessions'>;

export interface HttpSourceServices {
  readonly http: Pick<HttpClient, 'send'>;
  readonly refs: Pick<RefManager, 'newMutable' | 'get' | 'search'>;
  readonly mountLocally: (view: RefMounts) => Promise<{ readonly path: string; release(): Promise<void> }>;
  readonly key: HttpKey;
  /** A secret of the clients. @throws notFound */
  readonly secret: (id: string, context: HttpContext) => Promise<Uint8Array>;
  /** What a client offers at `http://buildkit-session/…`. */
  readonly upload: (url: URL, context: HttpContext) => AsyncIterable<Uint8Array>;
  /** What the builds of these sessions have downloaded. */
  readonly memo?: (sessions: readonly string[]) => HttpMemo | undefined;
}

/** One file of the web (FEATURES D39). */
export class HttpSource implements SourceInstance {
  readonly #spec: HttpSourceSpec;
  readonly #services: HttpSourceServices;
  readonly #task: SharedTask<HttpFound>;
  #context: HttpContext | undefined;

  constructor(spec: HttpSourceSpec, services: HttpSourceServices) {
    this.#spec = spec;
    this.#services = services;
    this.#task = new SharedTask((signal) => this.#find({ sessions: this.#context!.sessions, signal }));
  }

  async cacheKey(_index: number, context: HttpContext): Promise<SourceKey> {
    const { digest, filename, lastModified } = await this.metadata(context);
    const { perm, uid, gid, authHeaderSecret, headers } = this.#spec;
    const key = this.#services.key({
      filename,
      perm,
      uid,
      gid,
      checksum: digest,
      ...(lastModified ? { lastModified } : {}),
      ...(authHeaderSecret ? { authHeaderSecret } : {}),
      ...(headers.length ? { header: headers } : {}),
    });
    return { key, pin: digest, done: true };
  }

  /** With a checksum given, nothing is asked of the server; a signature is checked on the file itself. */
  async metadata(context: HttpContext): Promise<HttpMetadata> {
    const { checksum, signature } = this.#spec;
    const metadata = checksum
      ? { digest: checksum, filename: httpFileName(this.#spec, undefined) }
      : await this.#found(context);
    if (signature) await this.#verify(signature, context);
    return metadata;
  }

  async #verify({ armored, publicKeys }: HttpSignature, context: HttpContext): Promise<void> {
    try {
      await this.#found(context);
    } catch (error) {
      throw BuildError.wrap(error, 'failed to resolve source reference for signature verification');
    }
    try {
      const check = new DetachedSignature(armored, publicKeys);
      await this.#read(context, (chunk) => check.update(chunk));
      check.finish({ rejectExpired: false });
    } catch (error) {
      context.signal.throwIfAborted();
      throw BuildError.wrap(error, 'failed to verify pgp signature');
    }
  }

  /** Digest of the file with `suffix` behind it (FEATURES I12). */
  async checksum(
    algorithm: 'sha256' | 'sha384' | 'sha512',
    suffix: Uint8Array,
    context: HttpContext,
  ): Promise<string> {
    if (suffix.length > MAX_SUFFIX_BYTES)
      throw new BuildError(`http checksum request suffix exceeds max size ${MAX_SUFFIX_BYTES}`);
    const hash = createHash(algorithm);
    await this.#read(context, (chunk) => void hash.update(chunk));
    return `${algorithm}:${hash.update(suffix).digest('hex')}`;
  }

  /** The bytes of the file, piece by piece. */
  async #read(context: HttpContext, take: (chunk: Uint8Array) => void): Promise<void> {
    await using ref = await this.snapshot(context);
    const name = ref.record.get(keyName) ?? httpFileName(this.#spec, undefined);
    const tree = await this.#services.mountLocally(await ref.mount(true, { signal: context.signal }));
    try {
      using root = openRootfs(tree.path);
      const fd = root.openFileNoFollow(name);
      try {
        const options = { fd, autoClose: false, highWaterMark: READ_BYTES, signal: context.signal };
        for await (const chunk of createReadStream('', options)) take(chunk as Buffer);
      } finally {
        closeSync(fd);
      }
    } finally {
      await tree.release();
    }
  }

  async snapshot(context: HttpContext): Promise<ImmutableRef> {
    const found = await this.#found(context);
    try {
      return await this.#services.refs.get(found.recordId);
    } catch (error) {
      if (!hasCode(error, Code.notFound)) throw error;
    }
    // Pruned between the key and now.
    this.#task.reset();
    const { recordId, digest } = await this.#found(context);
    if (digest !== found.digest) throw new BuildError(`digest mismatch ${digest}: ${found.digest}`);
    return this.#services.refs.get(recordId);
  }

  #found(context: HttpContext): Promise<HttpFound> {
    this.#context = context;
    return this.#task.join(context.signal);
  }

  /** The file, from an earlier build if the server says that it is the same still. */
  async #find(context: HttpContext): Promise<HttpFound> {
    const earlier = this.#services.refs.search(keyUrl, downloadKey(this.#spec));
    const { checksum } = this.#spec;
    const exact = checksum && earlier.find((record) => record.get(keyChecksum) === checksum);
    if (exact) return fromRecord(exact, this.#spec);
    const memo = this.#services.memo?.(context.sessions());
    const ask = (signal: AbortSignal): Promise<HttpFound> =>
      // A server that fails for a moment, or a connection that breaks, is tried again (USERS row 6).
      withRetries({ signal }, () => this.#ask(earlier, { sessions: context.sessions, signal }, memo));
    const found = memo
      ? await memo.resolve(downloadKey(this.#spec), ask, context.signal)
      : await ask(context.signal);
    if (checksum && found.digest !== checksum)
      throw new BuildError(`digest mismatch ${found.digest}: ${checksum}`);
    return found;
  }

  async #ask(
    earlier: readonly RecordMetadata[],
    context: HttpContext,
    memo: HttpMemo | undefined,
  ): Promise<HttpFound> {
    const url = new URL(this.#spec.url);
    if (url.host === UPLOAD_HOST)
      return this.#save(this.#services.upload(url, context), () => undefined, context, memo);
    await using held = new AsyncDisposableStack();
    const tags = await this.#heldTags(earlier, held);
    const known = async (tag: string): Promise<HttpFound | undefined> => {
      const ref = tags.get(tag);
      if (ref) await memo?.keep(ref.clone());
      return ref && fromRecord(ref.record, this.#spec);
    };
    const headers: Record<string, string> = {
      ...(await this.#authorization(url, context)),
      ...Object.fromEntries(this.#spec.headers.map(({ name, value }) => [name.toLowerCase(), value])),
      ...(tags.size ? { 'if-none-match': [...tags.keys()].join(', ') } : {}),
      // Always, since some servers have a tag for each encoding.
      'accept-encoding': 'gzip',
    };
    const same = tags.size > 0 ? await this.#unchanged(url, headers, tags, context) : undefined;
    const unchanged = same === undefined ? undefined : await known(same);
    if (unchanged) return unchanged;
    const response = await this.#send('GET', url, headers, context);
    if (response.status === 304) {
      await response.discard();
      const tag = tagOf(response, tags);
      const found = await known(tag);
      if (!found) throw new BuildError(`invalid not-modified ETag: ${tag}`);
      return found;
    }
    if (response.status < 200 || response.status >= 400) {
      await response.discard();
      const message = `invalid response status ${response.status}`;
      throw response.status >= 500 ? new StatusError(message, response.status, '') : new BuildError(message);
    }
    const zipped = response.header('content-encoding')?.toLowerCase() === 'gzip';
    const body = zipped ? gunzipped(response.body()) : response.body();
    return this.#save(body, (name) => response.header(name), context, memo);
  }

  /** Refs of earlier downloads by their tags, held by `stack` so that an answer about one is worth something. */
  async #heldTags(
    earlier: readonly RecordMetadata[],
    stack: AsyncDisposableStack,
  ): Promise<Map<string, ImmutableRef>> {
    const tags = new Map<string, ImmutableRef>();
    for (const record of earlier) {
      const tag = record.get(keyEtag);
      if (!tag) continue;
      try {
        tags.set(tag, stack.use(await this.#services.refs.get(record.id)));
      } catch (error) {
        if (!hasCode(error, Code.notFound)) throw error; // pruned just now
      }
    }
    return tags;
  }

  /** Some servers give tags but do not mind If-None-Match: their tags are compared here. */
  async #unchanged(
    url: URL,
    headers: Readonly<Record<string, string>>,
    tags: ReadonlyMap<string, unknown>,
    context: HttpContext,
  ): Promise<string | undefined> {
    try {
      const response = await this.#send('HEAD', url, headers, context);
      await response.discard();
      if (response.status !== 200 && response.status !== 304) return undefined;
      return tagOf(response, tags);
    } catch {
      context.signal.throwIfAborted();
      return undefined; // a server that knows no HEAD: GET decides
    }
  }

  async #send(
    method: string,
    url: URL,
    headers: Readonly<Record<string, string>>,
    context: HttpContext,
  ): Promise<HttpResponse> {
    const { authorization, ...others } = headers;
    // Redirects to another host must not see the secret.
    const authorize = async (target: URL): Promise<string | undefined> =>
      target.host === url.host && target.protocol === url.protocol ? authorization : undefined;
    try {
      return await this.#services.http.send({
        method,
        url,
        headers: others,
        authorize,
        signal: context.signal,
      });
    } catch (error) {
      context.signal.throwIfAborted();
      throw connectionFailed(error, method, url);
    }
  }

  async #authorization(url: URL, context: HttpContext): Promise<{ authorization?: string }> {
    const { authHeaderSecret } = this.#spec;
    const text = async (id: string): Promise<string> =>
      Buffer.from(await this.#services.secret(id, context)).toString();
    if (authHeaderSecret !== '') {
      try {
        return { authorization: await text(authHeaderSecret) };
      } catch (error) {
        throw BuildError.wrap(error, `failed to retrieve HTTP auth secret ${authHeaderSecret}`);
      }
    }
    for (const [prefix, scheme] of [
      ['HTTP_AUTH_TOKEN_', 'Bearer '],
      ['HTTP_AUTH_HEADER_', ''],
    ] as const) {
      try {
        return { authorization: scheme + (await text(`${prefix}${url.hostname}`)) };
      } catch {
        context.signal.throwIfAborted();
        // Optional: most builds have none.
      }
    }
    return {};
  }

  async #save(
    body: AsyncIterable<Uint8Array>,
    header: (name: string) => string | undefined,
    context: HttpContext,
    memo: HttpMemo | undefined,
  ): Promise<HttpFound> {
    const filename = httpFileName(this.#spec, header('content-disposition'));
    const modified = header('last-modified');
    const lastModified = modified === undefined ? undefined : validDate(modified);
    const description = `http url ${shownUrl(this.#spec)}`;
    const { perm, uid, gid } = this.#spec;
    const file = { name: filename, perm, uid, gid, modified: lastModified };
    const made = await makeSingleFile(this.#services, description, file, body, context.signal);
    const { digest } = made;
    await using ref = made.ref;
    const { record } = ref;
    record.set(keyChecksum, digest);
    record.set(keyName, filename);
    const tag = header('etag');
    if (tag) record.set(keyEtag, strongTag(tag));
    if (lastModified) record.set(keyModTime, lastModified.toUTCString());
    record.set(keyUrl, downloadKey(this.#spec));
    await memo?.keep(ref.clone());
    return { digest, filename, recordId: ref.id, ...(lastModified ? { lastModified } : {}) };
  }
}

function fromRecord(record: RecordMetadata, spec: HttpSourceSpec): HttpFound {
  const digest = record.get(keyChecksum) ?? '';
  if (!isDigest(digest)) throw new BuildError('invalid metadata change');
  const modified = validDate(record.get(keyModTime) ?? '');
  return {
    digest,
    filename: record.get(keyName) ?? httpFileName(spec, undefined),
    recordId: record.id,
    ...(modified ? { lastModified: modified } : {}),
  };
}

async function* gunzipped(body: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array, void> {
  const gunzip = createGunzip();
  const fed = pipeline(body, gunzip);
  fed.catch(() => {}); // its failure destroys the stream that is read below
  try {
    yield* gunzip as AsyncIterable<Uint8Array>;
    await fed;
  } finally {
    gunzip.destroy();
  }
}

/** The tag of the answer; one without it answers the only tag that was asked about. */
function tagOf(response: HttpResponse, tags: ReadonlyMap<string, unknown>): string {
  const tag = strongTag(response.header('etag') ?? '');
  if (tag !== '' || response.status !== 304 || tags.size !== 1) return tag;
  return [...tags.keys()][0]!;
}

function strongTag(tag: string): string {
  return tag.replace(/^W\//, '');
}

function validDate(text: string): Date | undefined {
  const date = new Date(text);
  return text === '' || Number.isNaN(date.getTime()) ? undefined : date;
}
