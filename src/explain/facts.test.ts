import assert from 'node:assert/strict';
import { test } from 'node:test';
import { CacheSharingOpt, ExecOp, FileAction, FileOp, Mount, MountType, Op, SourceOp } from '../llb/ops.ts';
import { factsOf } from './facts.ts';

const LINUX = { os: 'linux', architecture: 'amd64' };
const facts = (op: Op['op'], salt = 'salt') => factsOf(Op.create({ op }), LINUX, salt);

function exec(env: string[], mounts: Mount[] = []): Op['op'] {
  const meta = { args: ['/bin/sh', '-c', 'make'], env, cwd: '/w', user: 'me' };
  return { $case: 'exec', value: ExecOp.create({ meta, mounts }) };
}

test('a command, its variables and options', () => {
  assert.deepEqual(facts(exec(['A=1', 'EMPTY='])), {
    'platform ': 'linux/amd64',
    'command ': 'make',
    'option shell': '/bin/sh',
    'env A': '1',
    'env EMPTY': "''",
    'option working directory': '/w',
    'option user': 'me',
  });
});

test('values that look like secrets are digests that differ with the value and the salt', () => {
  const token = (value: string, salt?: string) => facts(exec([`API_TOKEN=${value}`]), salt)['env API_TOKEN'];
  assert.match(token('topsecret') ?? '', /^\(hidden, [0-9a-f]{8}\)$/);
  assert.equal(token('topsecret'), token('topsecret'));
  assert.notEqual(token('topsecret'), token('other'));
  assert.notEqual(token('topsecret'), token('topsecret', 'another salt'));
  assert.equal(facts(exec(['PUBLIC_KEY=k']))['env PUBLIC_KEY'], 'k');
});

test('mounts tell what counts: no ids of caches that make no difference, no plain root', () => {
  const root = Mount.create({ dest: '/', input: 0n, output: 0n });
  const cache = (ID: string) =>
    Mount.create({
      dest: '/c',
      input: -1n,
      output: -1n,
      mountType: MountType.CACHE,
      cacheOpt: { ID, sharing: CacheSharingOpt.SHARED },
    });
  const secret = Mount.create({
    dest: '/s',
    input: -1n,
    output: -1n,
    mountType: MountType.SECRET,
    secretOpt: { ID: 'mine', mode: 0o400, uid: 1, gid: 2, optional: true },
  });
  const bind = Mount.create({ dest: '/b', input: 1n, output: -1n, readonly: true, selector: 'src' });
  const found = facts(exec([], [root, cache('one'), secret, bind]));
  assert.deepEqual(
    Object.entries(found).filter(([key]) => key.startsWith('mount')),
    [
      ['mount /c', 'type=cache'],
      ['mount /s', 'type=secret,id=mine,mode=400,uid=1,gid=2,optional'],
      ['mount /b', 'type=bind,source=src,readonly'],
    ],
  );
  assert.deepEqual(facts(exec([], [root, cache('one')])), facts(exec([], [root, cache('two')])));
});

test('sources without credentials and what differs from build to build', () => {
  const source = (identifier: string, attrs: Record<string, string> = {}) =>
    facts({ $case: 'source', value: SourceOp.create({ identifier, attrs }) });
  assert.deepEqual(source('local://context', { 'local.session': 's', 'local.unique': 'u' }), {
    'source ': 'local://context',
  });
  assert.equal(source('https://me:pass@example.com/x')['source '], 'https://example.com/x');
  assert.equal(source('git://https://me:pass@example.com/x')['source '], 'git://https://example.com/x');
  assert.equal(source('docker-image://a/b:c')['platform '], 'linux/amd64');
});

test('file actions, long values and the content of files', () => {
  const mkfile = FileAction.create({
    action: {
      $case: 'mkfile',
      value: { path: '/f', mode: 0o644, data: Buffer.from('text'), timestamp: -1n, owner: undefined },
    },
  });
  const one = facts({ $case: 'file', value: FileOp.create({ actions: [mkfile] }) });
  assert.equal(one['option action'], 'mkfile');
  assert.match(one['option content'] ?? '', /^sha256:[0-9a-f]{12}$/);
  assert.equal(one['option mode'], '644');
  const two = facts({ $case: 'file', value: FileOp.create({ actions: [mkfile, mkfile] }) });
  assert.equal(two['option #2 action'], 'mkfile');
  const long = facts(exec([`LONG=${'x'.repeat(5000)}`]))['env LONG'] ?? '';
  assert.ok(long.length < 1100);
  assert.notEqual(long, facts(exec([`LONG=${'x'.repeat(5001)}`]))['env LONG']);
});
