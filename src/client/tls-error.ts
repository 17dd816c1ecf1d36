import { BuildError, Code, errno } from '../base/errors.ts';

const UNKNOWN_AUTHORITY = 'x509: certificate signed by unknown authority';
const VERIFY: Readonly<Record<string, string>> = {
  CERT_HAS_EXPIRED: 'x509: certificate has expired or is not yet valid',
  CERT_NOT_YET_VALID: 'x509: certificate has expired or is not yet valid',
  DEPTH_ZERO_SELF_SIGNED_CERT: UNKNOWN_AUTHORITY,
  SELF_SIGNED_CERT_IN_CHAIN: UNKNOWN_AUTHORITY,
  UNABLE_TO_GET_ISSUER_CERT: UNKNOWN_AUTHORITY,
  UNABLE_TO_GET_ISSUER_CERT_LOCALLY: UNKNOWN_AUTHORITY,
  UNABLE_TO_VERIFY_LEAF_SIGNATURE: UNKNOWN_AUTHORITY,
};

interface SslError extends Error {
  /** What OpenSSL calls it: `tlsv13 alert certificate required`. */
  readonly reason?: string;
  readonly cert?: { readonly subjectaltname?: string };
  readonly host?: string;
}

/** Why a handshake failed, in upstream's words; undefined for what is no matter of TLS. */
export function handshakeProblem(error: unknown): string | undefined {
  const code = errno(error) ?? '';
  const { reason, cert, host } = error as SslError;
  const verify = Object.hasOwn(VERIFY, code) ? VERIFY[code] : undefined;
  if (verify !== undefined) return `tls: failed to verify certificate: ${verify}`;
  if (code === 'ERR_TLS_CERT_ALTNAME_INVALID') {
    const names = (cert?.subjectaltname ?? '').replace(/(?:DNS|IP Address|URI|email):/g, '');
    const good = names === '' ? 'not valid for any names' : `valid for ${names}`;
    return `tls: failed to verify certificate: x509: certificate is ${good}, not ${host}`;
  }
  if (!code.startsWith('ERR_SSL_')) return undefined;
  if (code === 'ERR_SSL_WRONG_VERSION_NUMBER' || code === 'ERR_SSL_PACKET_LENGTH_TOO_LONG')
    return 'tls: first record does not look like a TLS handshake';
  return alertText(reason) ?? `tls: ${reason ?? code}`;
}

/** The error of a connection that ended: an alert of the other side is what clients are told. */
export function connectionProblem(error: unknown): BuildError {
  const alert = alertText((error as SslError).reason);
  if (alert === undefined) return BuildError.from(error);
  return new BuildError(`connection error: desc = "error reading server preface: ${alert}"`, {
    code: Code.unavailable,
    cause: error,
  });
}

function alertText(reason: string | undefined): string | undefined {
  const alert = /^(?:sslv3|tlsv1|tlsv13) alert (.*)$/.exec(reason ?? '')?.[1];
  if (alert === undefined) return undefined;
  return `remote error: tls: ${alert === 'unknown ca' ? 'unknown certificate authority' : alert}`;
}
