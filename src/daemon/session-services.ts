import { BuildError, Code, hasCode } from '../base/errors.ts';
import { PatternMatcher } from '../match/patterns.ts';
import type { GetSecret } from '../ops/secret-mount.ts';
import type { ForwardSsh } from '../ops/ssh-mount.ts';
import { sessionContent } from '../session/caller/content.ts';
import { receiveLocal } from '../session/caller/filesync.ts';
import { getSecret } from '../session/caller/secrets.ts';
import { checkSshAgent, openSshSocket } from '../session/caller/ssh.ts';
import { pullUpload } from '../session/caller/upload.ts';
import type { Session, SessionManager } from '../session/manager.ts';
import type { OpContext } from '../solver/types.ts';
import type { LocalCaller } from '../source/local.ts';
import type { FindLayoutBlob, LayoutPlace } from '../source/oci-layout.ts';

/** Directory bit of Go's file modes (FEATURES C8). */
const GO_MODE_DIR = 1 << 31;
/** How long a step waits for a session of its build, milliseconds. */
const SESSION_WAIT_MS = 5000;

/** What steps get from the clients of the builds that want them: the first that has it. */
export class SessionServices {
  readonly #sessions: SessionManager;
  readonly #tmpDir: string;

  /** @param tmpDir for the sockets of forwarded agents. */
  constructor(sessions: SessionManager, tmpDir: string) {
    this.#sessions = sessions;
    this.#tmpDir = tmpDir;
  }

  readonly secrets =
    (ids: () => readonly string[]): GetSecret =>
    (id, signal) =>
      this.#firstThatHas(ids(), signal, (session) => getSecret(session, id, signal));

  readonly ssh = (ids: () => readonly string[]): ForwardSsh => ({
    check: (id, signal) => this.#firstThatHas(ids(), signal, (session) => checkSshAgent(session, id, signal)),
    listen: (options, signal) =>
      this.#firstThatHas(ids(), signal, async (session) => {
        await checkSshAgent(session, options.id, signal);
        return openSshSocket(session, { ...options, tmpDir: this.#tmpDir }, signal);
      }),
  });

  /** An upload is there once: the first session that offers any is asked. */
  async *upload(url: URL, ids: () => readonly string[], signal: AbortSignal): AsyncGenerator<Uint8Array> {
    const session = await this.#firstThatHas(ids(), signal, async (found) => found);
    yield* pullUpload(session, url, AbortSignal.any([signal, session.signal]));
  }

  /** Runs `work` with the named session, or else with the first of the build's that succeeds. */
  readonly withLocalSession = async <T>(
    id: string,
    context: OpContext,
    work: (caller: LocalCaller) => Promise<T>,
  ): Promise<T> => {
    const { signal } = context;
    if (id !== '') {
      const named = await this.#connected(id, signal).catch(() => undefined); // gone: any other of the build will do
      signal.throwIfAborted();
      if (named) return work(localCaller(named));
    }
    return this.#sessions.any(context.sessions(), signal, (session) => work(localCaller(session)));
  };

  /**
   * Finds blobs of a layout that a client lends: the named session's, or else that of the first of the build's
   * that has the blob.
   */
  readonly layout =
    ({ sessionId, storeId }: LayoutPlace, ids: () => readonly string[]): FindLayoutBlob =>
    async (digest, signal) => {
      const ask = async (session: Session) => {
        const store = sessionContent(session, `oci:${storeId}`);
        const { size } = await store.info(digest, signal);
        return { store, size };
      };
      if (sessionId !== '') return ask(await this.#connected(sessionId, signal));
      return this.#sessions.any(ids(), signal, ask);
    };

  /** A build may ask before the session of its client has connected. */
  #connected(id: string, signal: AbortSignal): Promise<Session> {
    return this.#sessions.get(id, AbortSignal.any([signal, AbortSignal.timeout(SESSION_WAIT_MS)]));
  }

  async #firstThatHas<T>(
    ids: readonly string[],
    signal: AbortSignal,
    work: (session: Session) => Promise<T>,
  ): Promise<T> {
    let last: unknown;
    for (const id of ids) {
      let session: Session;
      try {
        session = await this.#connected(id, signal);
      } catch (error) {
        signal.throwIfAborted();
        last ??= error;
        continue;
      }
      try {
        return await work(session);
      } catch (error) {
        last = error;
        if (!hasCode(error, Code.notFound) && !hasCode(error, Code.unimplemented)) throw error;
      }
    }
    throw last ?? new BuildError('no active sessions', { code: Code.notFound });
  }
}

function localCaller(session: Session): LocalCaller {
  return {
    sharedKey: session.sharedKey,
    receive: (request) => {
      const { differ, dest, signal, onProgress, onChange, metadataOnly } = request;
      const exceptions = metadataOnly && new PatternMatcher(metadataOnly);
      return receiveLocal(session, request, dest, {
        differ,
        signal: AbortSignal.any([signal, session.signal]),
        onProgress,
        onChange: ({ kind, path, stat }) =>
          onChange({
            path,
            kind: kind === 'delete' ? 'delete' : 'write',
            directory: stat !== undefined && (stat.mode & GO_MODE_DIR) !== 0,
          }),
        ...(exceptions ? { only: ({ path }) => exceptions.matchesOrParentMatches(path) } : {}),
      });
    },
  };
}
