import { Console } from 'node:console';
import { Duplex } from 'node:stream';
import { BuildError, isCanceled } from '../base/errors.ts';
import { connectGrpc } from '../rpc/client.ts';
import { runFrontendFor } from './gateway.ts';
import type { Frontend } from './types.ts';

const OPTION = 'BUILDKIT_FRONTEND_OPT_';
const SESSION = 'BUILDKIT_SESSION_ID';

/**
 * The whole of a frontend image's program (FEATURES N14): speaks with the daemon on the standard input and output.
 * `console` writes to the standard error from then on.
 */
export async function runFromEnvironment(frontend: Frontend): Promise<void> {
  const { env } = process;
  const sessionId = env[SESSION];
  if (sessionId === undefined)
    throw new BuildError(`no build waits for this frontend: ${SESSION} is not set`, {
      hint: 'runFrontend is for programs of frontend images, which the daemon starts; client.build runs a frontend in this process',
    });
  Object.assign(console, new Console(process.stderr));
  const readable = process.stdin;
  const channel = connectGrpc(Duplex.from({ readable, writable: process.stdout } as never));
  const ended = new AbortController();
  channel.closed.then((error) => ended.abort(error));
  try {
    await runFrontendFor(
      {
        channel,
        options: frontendOptions(env),
        sessionId,
        product: env.BUILDKIT_EXPORTEDPRODUCT ?? '',
        signal: ended.signal,
      },
      frontend,
    );
  } catch (error) {
    // The daemon knows; the error stream is what it shows of a frontend that could not tell.
    if (!isCanceled(error)) process.stderr.write(`${BuildError.from(error).message}\n`);
    process.exitCode = 1;
  } finally {
    channel.destroy();
    readable.destroy();
  }
}

/** Options are variables of any name with the prefix; their value is `name=value`. */
function frontendOptions(env: Readonly<Record<string, string | undefined>>): Record<string, string> {
  const options: Record<string, string> = {};
  for (const [name, value] of Object.entries(env)) {
    if (!name.startsWith(OPTION) || value === undefined) continue;
    const at = value.indexOf('=');
    if (at >= 0) options[value.slice(0, at)] = value.slice(at + 1);
  }
  return options;
}
