import { BuildError, Code, hasCode } from '../../base/errors.ts';
import { SecretsDefinition } from '../../pb/secrets.ts';
import type { Session } from '../manager.ts';

/** Value of a client's secret (FEATURES C19). @throws BuildError notFound `secret <id>: not found` */
export async function getSecret(session: Session, id: string, signal: AbortSignal): Promise<Uint8Array> {
  try {
    const { data } = await session
      .client(SecretsDefinition)
      .getSecret({ ID: id, annotations: {} }, { signal });
    return data;
  } catch (error) {
    if (!hasCode(error, Code.notFound) && !hasCode(error, Code.unimplemented)) throw error;
    throw new BuildError(`secret ${id}: not found`, { code: Code.notFound, cause: error });
  }
}
