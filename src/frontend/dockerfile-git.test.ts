import assert from 'node:assert/strict';
import { test } from 'node:test';
import { digestOf } from '../base/digest.ts';
import { marshal } from '../llb/marshal.ts';
import { Op } from '../llb/ops.ts';
import { gitContext, mainGitOptions } from './dockerfile-git.ts';

const TOKENS = { 'git.authtokensecret': 'GIT_AUTH_TOKEN', 'git.authheadersecret': 'GIT_AUTH_HEADER' };

function stepOf(address: string, options: Readonly<Record<string, string>> = {}) {
  const state = gitContext(address, mainGitOptions(new Map(Object.entries(options))));
  if (!state) return undefined;
  const definition = marshal(state);
  const { op } = Op.decode(definition.def[0]!);
  assert.ok(op?.$case === 'source');
  const { identifier, attrs } = op.value;
  const { description } = definition.metadata[digestOf(definition.def[0]!)]!;
  return { identifier, attrs: { ...attrs }, name: description['llb.customname'] };
}

test('a repository as context, in each spelling', () => {
  assert.deepEqual(stepOf('https://example.com/a.git#v1:sub'), {
    identifier: 'git://example.com/a.git#v1:sub',
    attrs: { ...TOKENS, 'git.fullurl': 'https://example.com/a.git' },
    name: '[internal] load git source https://example.com/a.git#v1:sub',
  });
  assert.deepEqual(stepOf('github.com/moby/buildkit')?.attrs, {
    ...TOKENS,
    'git.fullurl': 'https://github.com/moby/buildkit',
  });
  assert.deepEqual(stepOf('git@example.com:a/b.git'), {
    identifier: 'git://example.com/a/b.git',
    attrs: { ...TOKENS, 'git.fullurl': 'git@example.com:a/b.git', 'git.mountsshsock': 'default' },
    name: '[internal] load git source git@example.com:a/b.git',
  });
  assert.equal(
    stepOf('https://me:secret@example.com/a.git')?.name,
    '[internal] load git source https://xxxxx:xxxxx@example.com/a.git',
  );
  const withKey = 'ssh://git@example.com/a';
  assert.equal(stepOf(withKey)?.name, `[internal] load git source ${withKey}`);
  assert.match(stepOf('ssh://git:secret@example.com/a')?.name ?? '', /xxxxx@/);
  for (const none of ['', 'https://example.com/a.tar', './a.git', 'a.git'])
    assert.equal(stepOf(none), undefined);
});

test('what the query asks for, and what the options add', () => {
  const query = 'tag=v1&commit=abcd&keep-git-dir&submodules=0&mtime=checkout&fetch-by-commit';
  const attrs = {
    ...TOKENS,
    'git.fullurl': 'https://example.com/a.git',
    'git.checksum': 'abcd',
    'git.keepgitdir': 'true',
    'git.skipsubmodules': 'true',
    'git.fetchbycommit': 'true',
  };
  const epoch = { 'build-arg:SOURCE_DATE_EPOCH': '1' };
  assert.deepEqual(stepOf(`https://example.com/a.git?${query}`, epoch)?.attrs, {
    ...attrs,
    'git.mtime': 'checkout',
  });
  const options = { ...epoch, 'build-arg:BUILDKIT_CONTEXT_KEEP_GIT_DIR': '1' };
  assert.deepEqual(stepOf('https://example.com/a.git?keep-git-dir=0', options)?.attrs, {
    ...TOKENS,
    'git.fullurl': 'https://example.com/a.git',
    'git.keepgitdir': 'true',
    'git.mtime': 'commit',
  });
  assert.throws(() => stepOf('https://example.com/a.git?x=1'), { message: 'unexpected query "x"' });
});
