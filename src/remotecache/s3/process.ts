import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { BuildError } from '../../base/errors.ts';
import { credentialsIn } from './metadata.ts';
import type { AwsCredentials } from './sigv4.ts';
import type { Search } from './credentials.ts';

const TIMEOUT_MS = 60_000;
const MAX_OUTPUT_BYTES = 256 * 1024;
const run = promisify(execFile);

/** Credentials that a program writes, as a profile of this machine names it (`credential_process`). */
export async function programCredentials(command: string, { env, signal }: Search): Promise<AwsCredentials> {
  const from = 'credential_process';
  let output: string;
  try {
    const limits = {
      timeout: TIMEOUT_MS,
      maxBuffer: MAX_OUTPUT_BYTES,
      killSignal: 'SIGKILL',
      signal,
    } as const;
    output = (await run('/bin/sh', ['-c', command], { ...limits, env: { ...env } })).stdout;
  } catch (error) {
    signal.throwIfAborted();
    // Not its message, which has the command with all that is in it.
    const { code, killed, stderr = '' } = error as { code?: unknown; killed?: boolean; stderr?: string };
    const end = killed ? `no end within ${TIMEOUT_MS / 1000} s` : `exit code ${String(code)}`;
    const said = stderr.trim().split('\n', 1)[0]!.slice(0, 500);
    throw new BuildError(`${from}: ${end}${said === '' ? '' : `: ${said}`}`);
  }
  return credentialsIn(output, from);
}
