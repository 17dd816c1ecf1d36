import assert from 'node:assert/strict';
import { test } from 'node:test';
import { connectionProblem, handshakeProblem } from './tls-error.ts';

const failure = (code: string, more: object = {}): Error =>
  Object.assign(new Error('40F3AEE6E97F0000:error:0A00045C:SSL routines'), { code, ...more });

test('handshakes fail in words that name what is wrong', () => {
  assert.equal(
    handshakeProblem(failure('UNABLE_TO_VERIFY_LEAF_SIGNATURE')),
    'tls: failed to verify certificate: x509: certificate signed by unknown authority',
  );
  const cert = { subjectaltname: 'DNS:a.test, IP Address:127.0.0.1' };
  assert.equal(
    handshakeProblem(failure('ERR_TLS_CERT_ALTNAME_INVALID', { cert, host: 'b.test' })),
    'tls: failed to verify certificate: x509: certificate is valid for a.test, 127.0.0.1, not b.test',
  );
  assert.equal(
    handshakeProblem(failure('ERR_SSL_WRONG_VERSION_NUMBER')),
    'tls: first record does not look like a TLS handshake',
  );
  assert.equal(
    handshakeProblem(failure('ERR_SSL_X', { reason: 'sslv3 alert bad certificate' })),
    'remote error: tls: bad certificate',
  );
  assert.equal(handshakeProblem(failure('ECONNREFUSED')), undefined);
});

test('a server that wants a certificate says so', () => {
  const error = connectionProblem(failure('ERR_SSL_X', { reason: 'tlsv13 alert certificate required' }));
  assert.equal(
    error.message,
    'connection error: desc = "error reading server preface: remote error: tls: certificate required"',
  );
  assert.equal(connectionProblem(new Error('gone')).message, 'gone');
});
