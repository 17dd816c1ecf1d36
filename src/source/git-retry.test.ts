import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isPassing } from './git-retry.ts';

const PASSING = [
  "fatal: unable to access 'http://h/x.git/': Recv failure: Connection reset by peer",
  "fatal: unable to access 'http://h/x.git/': Failed to connect to h port 80 after 0 ms: Couldn't connect to server",
  "fatal: unable to access 'http://h/x.git/': Could not resolve host: h",
  "fatal: unable to access 'http://h/x.git/': The requested URL returned error: 503",
  "fatal: unable to access 'http://h/x.git/': The requested URL returned error: 429",
  "fatal: unable to access 'https://h/x/': gnutls_handshake() failed: The TLS connection was non-properly terminated.",
  'error: RPC failed; curl 92 HTTP/2 stream 5 was not closed cleanly: CANCEL (err 8)\nfatal: early EOF',
  'error: RPC failed; HTTP 502 curl 22 The requested URL returned error: 502\nfatal: the remote end hung up unexpectedly',
  'fetch-pack: unexpected disconnect while reading sideband packet\nfatal: early EOF\nfatal: fetch-pack: invalid index-pack output',
  'ssh: connect to host h port 22: Connection timed out\nfatal: Could not read from remote repository.',
  'kex_exchange_identification: Connection closed by remote host\nfatal: Could not read from remote repository.',
];
const LASTING = [
  "fatal: could not read Username for 'http://h': terminal prompts disabled",
  "fatal: Authentication failed for 'http://h/x.git/'",
  "fatal: unable to access 'http://h/x.git/': The requested URL returned error: 403",
  "fatal: repository 'http://h/x.git/' not found",
  "fatal: couldn't find remote ref none",
  'fatal: remote error: upload-pack: not our ref 1234\nfatal: the remote end hung up unexpectedly',
  'error: RPC failed; HTTP 403 curl 22 The requested URL returned error: 403\nfatal: the remote end hung up unexpectedly',
  'git@h: Permission denied (publickey).\nfatal: Could not read from remote repository.',
  'Host key verification failed.\nfatal: Could not read from remote repository.',
  'git@h: Permission denied (publickey).\r\nConnection closed by h port 22',
  'fatal: bad object HEAD',
];

test('what may pass is told from what will not, by what git, curl and ssh say', () => {
  for (const text of PASSING) assert.ok(isPassing(['fetch', 'origin'], text), text);
  for (const text of LASTING) assert.ok(!isPassing(['fetch', 'origin'], text), text);
  assert.ok(!isPassing(['rev-parse', 'HEAD'], PASSING[0] ?? ''));
});
