import { X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createSecureContext } from 'node:tls';
import { BuildError } from '../base/errors.ts';
import type { TlsIdentity } from '../rpc/listen.ts';
import { systemErrorText } from '../sys/errno.ts';

/** Reads what TCP listeners prove themselves with, and check their clients by (FEATURES A5). @throws BuildError */
export function readTlsIdentity(files: {
  readonly cert: string;
  readonly key: string;
  readonly ca?: string | undefined;
}): TlsIdentity {
  const pair = attempt('could not load server key pair', () => {
    const both = { cert: readFileSync(files.cert, 'utf8'), key: readFileSync(files.key, 'utf8') };
    createSecureContext(both); // refuses what does not belong together
    return both;
  });
  const { ca: path } = files;
  if (path === undefined) return pair;
  const ca = attempt('could not read ca certificate', () => readFileSync(path, 'utf8'));
  attempt('failed to append ca cert', () => new X509Certificate(ca));
  return { ...pair, ca };
}

function attempt<T>(what: string, work: () => T): T {
  try {
    return work();
  } catch (error) {
    throw new BuildError(`${what}: ${systemErrorText(error)}`, { cause: error });
  }
}
