import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { BuildError } from '../../base/errors.ts';
import { DetachedSignature, verifyPgpSignature } from './pgp-signature.ts';
import { verifySshSignature } from './ssh-signature.ts';

/** Signatures that gpg and ssh-keygen have made, and what BuildKit says of them. */
interface Golden {
  readonly name: string;
  readonly ssh: boolean;
  readonly rejectExpired: boolean;
  readonly data: string;
  readonly signature: string;
  readonly key: string;
  readonly result: string;
}

const golden: readonly Golden[] = JSON.parse(
  readFileSync(join(import.meta.dirname, 'signatures.golden.json'), 'utf8'),
);

function outcome({ ssh, rejectExpired, data, signature, key }: Golden): string {
  try {
    if (ssh) verifySshSignature(Buffer.from(data), signature, key, 'git');
    else verifyPgpSignature(Buffer.from(data), signature, key, { rejectExpired });
    return 'ok';
  } catch (error) {
    assert.ok(error instanceof BuildError, String(error));
    return error.message;
  }
}

for (const each of golden)
  test(`a signature ${each.name}`, () => {
    assert.equal(outcome(each), each.result);
  });

test('several keys after one another: any may have signed', () => {
  const [first, second] = golden.filter(({ ssh, result }) => !ssh && result === 'ok');
  assert.equal(outcome({ ...first!, key: `${second!.key}\n${first!.key}` }), 'ok');
  const ssh = golden.find((each) => each.ssh && each.result === 'ok')!;
  assert.equal(outcome({ ...ssh, key: `# a comment\n\n restrict,command="x y" ${ssh.key}` }), 'ok');
  assert.match(outcome({ ...ssh, key: 'no key' }), /failed to parse ssh public key: ssh: no key found/);
});

test('data may come in pieces; a text may have the line ends of another system', () => {
  const inPieces = ({ signature, key }: Golden, data: string): void => {
    const check = new DetachedSignature(signature, key);
    for (const byte of Buffer.from(data)) check.update(Uint8Array.of(byte));
    check.update(new Uint8Array());
    check.finish({ rejectExpired: false });
  };
  for (const each of golden.filter(({ ssh, result }) => !ssh && result === 'ok')) {
    inPieces(each, each.data);
    assert.throws(() => inPieces(each, `${each.data}x`), /verification failure/, each.name);
  }
  const text = golden.find(({ name }) => name === 'text by text')!;
  assert.match(text.data, /\n/);
  inPieces(text, text.data.replaceAll('\n', '\r\n'));
  assert.throws(() => inPieces(text, text.data.replaceAll('\n', '\r\r\n')), /verification failure/);
});

/** The armored block with one bit of its bytes turned. */
function damaged(armored: string, bit: number): string {
  const lines = armored.trim().split('\n');
  const start = lines.findIndex((line, i) => i > 0 && !line.includes(': ') && line !== '');
  const body = lines.slice(start, -1).filter((line) => !line.startsWith('='));
  const data = Buffer.from(body.join(''), 'base64');
  const at = bit % (data.length * 8);
  data[at >> 3]! ^= 1 << (at & 7);
  return [...lines.slice(0, start), data.toString('base64'), lines.at(-1)].join('\n');
}

test('damaged signatures and keys are refused in words', () => {
  for (const each of golden.filter(({ result }) => result === 'ok'))
    for (let i = 0; i < 60; i++) {
      // Hints that are not signed may be changed: the number of bytes decides that nothing else passes.
      const signature = damaged(each.signature, i * 7919);
      const other = outcome({ ...each, signature, data: `${each.data}x` });
      assert.notEqual(other, 'ok', each.name);
      outcome({ ...each, signature });
      if (!each.ssh) outcome({ ...each, key: damaged(each.key, i * 7919) });
      outcome({ ...each, signature: each.signature.slice(0, i * 9) });
      outcome({ ...each, key: each.key.slice(0, i * 9) });
    }
});

test('long texts take no time', () => {
  const start = performance.now();
  const [each] = golden;
  for (const text of ['a'.repeat(1e6), 'a '.repeat(1e6), '-----BEGIN A'.repeat(1e5), '\n'.repeat(1e6)]) {
    assert.notEqual(outcome({ ...each!, key: text }), 'ok');
    assert.notEqual(outcome({ ...each!, ssh: true, signature: text }), 'ok');
    assert.notEqual(outcome({ ...golden.find(({ ssh }) => ssh)!, key: text }), 'ok');
  }
  assert.ok(performance.now() - start < 5000);
});
