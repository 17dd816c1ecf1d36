import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { BuildError } from '../base/errors.ts';
import { parseGitRef } from './git-ref.ts';
import { isCommitSha, isGitTransport, parseGitUrl } from './git-url.ts';
import { redactCredentials } from './redact.ts';

/** What BuildKit makes of a text. */
interface Golden {
  readonly text: string;
  readonly url?: { readonly query?: Readonly<Record<string, string[]>> };
  readonly urlError?: string;
  readonly ref?: { readonly keepGitDir: boolean | null; readonly submodules: boolean | null };
  readonly refError?: string;
  readonly redacted?: string;
  readonly transport?: boolean;
}

const golden: readonly Golden[] = JSON.parse(
  readFileSync(join(import.meta.dirname, 'giturl.golden.json'), 'utf8'),
);

function outcome<T>(work: () => T): { value: T } | { error: string } {
  try {
    return { value: work() };
  } catch (error) {
    assert.ok(error instanceof BuildError, String(error));
    return { error: error.message };
  }
}

test('addresses, their parts and their errors are as BuildKit has them', () => {
  for (const { text, url, urlError } of golden) {
    const expected = url ? { value: { ...url, query: url.query ?? {} } } : { error: urlError };
    const found = outcome(() => {
      const { query, ...parts } = parseGitUrl(text);
      return { ...parts, query: Object.fromEntries(query) };
    });
    assert.deepEqual(found, expected, text);
  }
});

test('refs of contexts and ADD are as BuildKit has them', () => {
  for (const { text, ref, refError } of golden) {
    const value = ref && {
      ...ref,
      keepGitDir: ref.keepGitDir ?? undefined,
      submodules: ref.submodules ?? undefined,
    };
    const expected = refError === undefined ? { value } : { error: refError };
    assert.deepEqual(
      outcome(() => parseGitRef(text)),
      expected,
      text,
    );
  }
});

test('transports and redacted credentials', () => {
  for (const { text, redacted, transport } of golden) {
    assert.equal(isGitTransport(text), transport ?? false, text);
    assert.equal(redactCredentials(text), redacted ?? text);
  }
});

test('whole names of commits', () => {
  assert.ok(isCommitSha('0'.repeat(40)));
  assert.ok(isCommitSha('f'.repeat(64)));
  for (const no of ['', '0'.repeat(39), 'F'.repeat(40), 'g'.repeat(40), `${'0'.repeat(40)}\n`])
    assert.ok(!isCommitSha(no), no);
});

test('any text is an address, none, or an error in words; never slow', () => {
  const pieces =
    'http:// https:// ssh:// git:// file:// git@ u:p@ github.com/ h.io :22 : / .git // # ? & = ref tag= mtime= submodules ; + % %41 %zz [::1] [ ] é \0 \n \u{10ffff} \ud800'.split(
      ' ',
    );
  let seed = 20260;
  const pick = (): string => {
    seed = (seed * 1103515245 + 12345) & 0x7fffffff;
    return pieces[(seed >> 8) % pieces.length] ?? '';
  };
  for (let i = 0; i < 20_000; i++) {
    const text = Array.from({ length: 1 + (i % 14) }, pick).join('');
    outcome(() => parseGitRef(text));
    const url = outcome(() => parseGitUrl(text));
    // What git is given is read again as the same place.
    if ('value' in url && url.value.host !== '') {
      const again = parseGitUrl(url.value.remote);
      assert.deepEqual([again.remote, again.host], [url.value.remote, url.value.host], JSON.stringify(text));
    }
    assert.doesNotThrow(() => redactCredentials(text));
  }
  const start = performance.now();
  for (const piece of ['?', '#', '@', ':', '%', 'a@', '&a', '/..', '\n'])
    outcome(() => parseGitRef(`git@h:${piece.repeat(200_000)}\n`));
  assert.ok(performance.now() - start < 3000);
});
