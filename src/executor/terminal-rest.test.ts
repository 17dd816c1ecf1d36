import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { restOfTerminal } from './terminal-rest.ts';

const dir = mkdtempSync(join(tmpdir(), 'bkt-terminal-'));
after(() => rmSync(dir, { recursive: true, force: true }));

function rest(log: string): string | undefined {
  const file = join(dir, 'log');
  writeFileSync(file, log);
  const found = restOfTerminal(file);
  return found && Buffer.from(found).toString();
}

test('what crun did not copy any more is found in its log, without what crun adds', () => {
  assert.equal(rest('terminal\r\n\n'), 'terminal\r\n');
  assert.equal(rest('no line\n'), 'no line');
  assert.equal(rest('gr\u00fc\u00df\r\n\n'), 'gr\u00fc\u00df\r\n');
  const long = Array.from({ length: 60 }, (_, i) => `line ${i}\r\n`).join('');
  for (const length of [1, 7, 9, 255]) {
    const pieces = long.match(new RegExp(`[\\s\\S]{1,${length}}`, 'g')) ?? [];
    assert.equal(rest(pieces.map((piece) => `${piece}\n`).join('')), long, `pieces of ${length}`);
  }
});

test('messages of a runtime are no output', () => {
  const message = '{"msg":"exec failed","level":"error","time":"2026-01-01T00:00:00Z"}\n';
  assert.equal(rest(message), undefined);
  assert.equal(rest(`${message}out\n`), 'out');
  assert.equal(rest(''), undefined);
  assert.equal(restOfTerminal(join(dir, 'none')), undefined);
});
