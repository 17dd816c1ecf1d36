import assert from 'node:assert/strict';
import {
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { withMounted } from '../testing/contracts/snapshot.ts';
import { FIRST_COMMIT_TIME, runGit, startGitServer, TestRepo } from '../testing/git.ts';
import { filesOf, gitBench, inTree } from '../testing/git-bench.ts';
import { GitSource } from './git.ts';
import { ResolveMemo } from './memo.ts';
import { type GitFound, gitSourceSpec } from './git-spec.ts';

for (const sha256 of [false, true])
  test(`the default branch, a branch, tags and a commit (${sha256 ? 'SHA-256' : 'SHA-1'})`, async () => {
    await using b = await gitBench({ sha256 });
    const one = b.repo.commit({ a: '1', 'd/x.sh': 'x' });
    b.repo.git('tag', 'light');
    b.repo.git('tag', '-a', '-m', 'words', 'v1');
    const tag = b.repo.git('rev-parse', 'v1');
    const two = b.repo.commit({ a: '2' });
    const source = b.source();
    assert.deepEqual(await source.cacheKey(0, b.context), { key: two, pin: two, done: true });
    assert.deepEqual(await filesOf(b, source), { a: '2', 'd/x.sh': 'x' });
    for (const ref of ['light', 'refs/tags/light', one]) {
      const old = b.source(`#${ref}`);
      assert.deepEqual(await old.cacheKey(0, b.context), { key: one, pin: one, done: true }, ref);
      assert.deepEqual(await filesOf(b, old), { a: '1', 'd/x.sh': 'x' }, ref);
    }
    const annotated = b.source('#v1');
    assert.deepEqual(await annotated.cacheKey(0, b.context), { key: one, pin: tag, done: true });
    assert.deepEqual(await filesOf(b, annotated), { a: '1', 'd/x.sh': 'x' });
    assert.equal((await b.source('#refs/heads/main').cacheKey(0, b.context)).pin, two);
    await assert.rejects(b.source('#none').cacheKey(0, b.context), /repository does not contain ref none/);
  });

test('an unchanged commit is not fetched again, a new one alone', async () => {
  await using b = await gitBench();
  b.repo.commit({ a: '1' });
  await filesOf(b, b.source());
  const before = b.server.seen.length;
  await filesOf(b, b.source());
  const asked = b.server.seen.slice(before);
  assert.ok(asked.length > 0 && asked.length <= 4, JSON.stringify(asked));
  b.repo.commit({ a: '2' });
  assert.deepEqual(await filesOf(b, b.source()), { a: '2' });
  const shared = b.refs.searchPrefix('git-remote', 'sha256:');
  assert.equal(shared.length, 1);
  assert.match(shared[0]!.description, /^shared git repo for http:\/\/127/);
});

test('a part of the tree; nothing that is no directory on the way', async () => {
  await using b = await gitBench();
  b.repo.git('config', 'core.symlinks', 'true');
  b.repo.commit({ 'a/b/c': 'c', 'a/b/d/e': 'e', top: 't' });
  b.repo.git('-c', 'alias.l=!ln -s a link', 'l');
  const sha = b.repo.commit({});
  const source = b.source('#main:a/b');
  assert.equal((await source.cacheKey(0, b.context)).key, `${sha}:a/b`);
  assert.deepEqual(await filesOf(b, source), { c: 'c', 'd/e': 'e' });
  await assert.rejects(filesOf(b, b.source('#main:link/b')), /contains non-directory "link"/);
  await assert.rejects(filesOf(b, b.source('#main:top')), /contains non-directory "top"/);
  await assert.rejects(filesOf(b, b.source('#main:none')), /invalid subdir none: failed to lstat "none"/);
});

test('with the Git folder: a repository of its own that knows the server', async () => {
  await using b = await gitBench();
  const one = b.repo.commit({ a: '1' });
  b.repo.git('tag', '-a', '-m', 'words', 'v1');
  const tag = b.repo.git('rev-parse', 'v1');
  const keep = { 'git.keepgitdir': 'true' };
  const source = b.source('', keep);
  assert.equal((await source.cacheKey(0, b.context)).key, `${one}.git#refs/heads/main`);
  const secret = `http://me:hunter2@${b.server.host}/main.git`;
  for (const [ref, attrs, name] of [
    ['', keep, 'refs/heads/main'],
    ['#v1', keep, 'refs/tags/v1'],
    [`#${one}`, { ...keep, 'git.fullurl': secret }, ''],
  ] as const) {
    await using tree = await b.source(ref, attrs).snapshot(b.context);
    await inTree(tree, (dir) => {
      const git = (...args: string[]) => runGit(dir, args);
      assert.equal(git('rev-parse', 'HEAD'), one);
      assert.equal(git('status', '--porcelain'), '');
      if (name !== '') assert.equal(git('rev-parse', name), name.includes('tags') ? tag : one);
      const url = git('config', 'remote.origin.url');
      assert.equal(
        url,
        name === '' ? secret.replace('me:hunter2', 'xxxxx:xxxxx') : `${b.server.url}/main.git`,
      );
      assert.ok(!existsSync(join(dir, '.git/FETCH_HEAD')));
      assert.equal(git('reflog', '--all'), '');
    });
  }
  assert.equal((await b.source('#v1', keep).cacheKey(0, b.context)).key, `${tag}.git#refs/tags/v1`);
});

test('submodules, also of submodules; a moved one; none when not wanted', async () => {
  await using b = await gitBench();
  const make = (name: string) => new TestRepo(join(b.root, 'repos', name));
  const inner = make('inner');
  inner.commit({ deep: 'd' });
  const sub = make('sub');
  sub.commit({ s: '1' });
  sub.git('submodule', 'add', '-q', `${inner.dir}/.git`, 'inner');
  sub.git('config', '-f', '.gitmodules', 'submodule.inner.url', `${b.server.url}/inner.git`);
  sub.commit({});
  b.repo.commit({ a: '1' });
  b.repo.git('submodule', 'add', '-q', `${sub.dir}/.git`, 'sub');
  b.repo.git('config', '-f', '.gitmodules', 'submodule.sub.url', '../sub.git');
  const sha = b.repo.commit({});
  const whole = await filesOf(b, b.source());
  assert.deepEqual(Object.keys(whole), ['.gitmodules', 'a', 'sub/.gitmodules', 'sub/inner/deep', 'sub/s']);
  const plain = b.source('', { 'git.skipsubmodules': 'true' });
  assert.equal((await plain.cacheKey(0, b.context)).key, `${sha}(skip-submodules)`);
  assert.deepEqual(Object.keys(await filesOf(b, plain)), ['.gitmodules', 'a']);
  assert.deepEqual(Object.keys(await filesOf(b, b.source('#main:sub'))), ['.gitmodules', 'inner/deep', 's']);
  // The submodule is another repository now.
  const other = make('other');
  const commit = other.commit({ o: '1' });
  b.repo.git('config', '-f', '.gitmodules', 'submodule.sub.url', `${b.server.url}/other.git`);
  b.repo.git('add', '.gitmodules');
  b.repo.git('update-index', '--cacheinfo', `160000,${commit},sub`);
  b.repo.git('commit', '-q', '-m', 'moved');
  assert.deepEqual(Object.keys(await filesOf(b, b.source())), ['.gitmodules', 'a', 'sub/o']);
});

test('times of the commit for everything, symlinks too', async () => {
  await using b = await gitBench();
  b.repo.commit({ 'd/a': '1' });
  symlinkSync('d/a', join(b.repo.dir, 'l'));
  const sha = b.repo.commit({});
  const source = b.source('', { 'git.mtime': 'commit' });
  assert.equal((await source.cacheKey(0, b.context)).key, `${sha}(mtime=commit)`);
  await using ref = await source.snapshot(b.context);
  await inTree(ref, (dir) => {
    for (const name of ['.', 'd', 'd/a', 'l'])
      assert.equal(lstatSync(join(dir, name)).mtimeMs, (FIRST_COMMIT_TIME + 60) * 1000, name);
    assert.equal(lstatSync(join(dir, 'd')).mode & 0o7777, 0o755);
    assert.equal(lstatSync(join(dir, 'd/a')).mode & 0o7777, 0o644);
  });
});

test('checksums: of commits and tags, whole and short; others are refused', async () => {
  await using b = await gitBench();
  const one = b.repo.commit({ a: '1' });
  b.repo.git('tag', '-a', '-m', 'words', 'v1');
  const tag = b.repo.git('rev-parse', 'v1');
  const check = (ref: string, checksum: string, more = {}) =>
    filesOf(b, b.source(ref, { 'git.checksum': checksum, ...more }));
  for (const [ref, checksum] of [
    ['', one],
    ['#main', one.slice(0, 7)],
    ['#v1', tag],
    ['#v1', one.slice(0, 10)],
    [`#${one}`, one.slice(0, 5)],
  ] as const)
    assert.deepEqual(await check(ref, checksum), { a: '1' }, `${ref} ${checksum}`);
  const other = one.replace(/^./, (c) => (c === '0' ? '1' : '0'));
  await assert.rejects(check('#main', other), { message: `expected checksum to match ${other}, got ${one}` });
  await assert.rejects(check(`#${one}`, other), /expected checksum to match/);
  await assert.rejects(check('#v1', other), new RegExp(`got ${tag} or ${one}$`));
  await assert.rejects(check(`#${tag}`, other), /expected checksum to match/);
  await assert.rejects(check('', 'xyz'), { message: /^invalid checksum xyz for Git URL/ });
});

test('a commit that the client vouches for is fetched without asking for its ref', async () => {
  await using b = await gitBench();
  const one = b.repo.commit({ a: '1' });
  b.repo.commit({ a: '2' });
  const attrs = { 'git.fetchbycommit': 'true', 'git.checksum': one };
  const source = b.source('#main', { ...attrs, 'git.keepgitdir': 'true' });
  const key = { key: `${one}.git#refs/heads/main`, pin: one, done: true };
  assert.deepEqual(await source.cacheKey(0, b.context), key);
  assert.equal(b.server.seen.length, 0);
  await using ref = await source.snapshot(b.context);
  await inTree(ref, (dir) => {
    assert.equal(runGit(dir, ['rev-parse', 'refs/heads/main']), one);
    assert.equal(readFileSync(join(dir, 'a'), 'utf8'), '1');
  });
  const bad = (checksum: string) =>
    b.source('#main', { ...attrs, 'git.checksum': checksum }).cacheKey(0, b.context);
  await assert.rejects(bad(''), { message: 'fetch-by-commit requires a checksum or a commit SHA ref' });
  await assert.rejects(bad('abc'), {
    message: 'fetch-by-commit requires a full commit SHA checksum, got "abc"',
  });
});

test('a ref that moves meanwhile stays what it was for the build', async () => {
  await using b = await gitBench();
  const memo = new ResolveMemo<GitFound>();
  const make = () =>
    new GitSource(
      gitSourceSpec(`${b.server.host}/main.git#main`, { 'git.fullurl': `${b.server.url}/main.git` }),
      {
        ...b.services,
        memo: () => memo,
      },
    );
  const one = b.repo.commit({ a: '1' });
  const source = make();
  assert.equal((await source.cacheKey(0, b.context)).pin, one);
  b.repo.git('commit', '-q', '--amend', '-m', 'another');
  b.repo.commit({ a: '2' });
  assert.equal((await make().cacheKey(0, b.context)).pin, one);
  assert.deepEqual(await filesOf(b, source), { a: '1' });
  assert.deepEqual(await filesOf(b, b.source('#main')), { a: '2' });
});

test('a tag that was changed, and a branch whose name became a folder', async () => {
  await using b = await gitBench();
  b.repo.commit({ a: '1' });
  b.repo.git('tag', '-a', '-m', 'one', 'v1');
  b.repo.git('branch', 'feature');
  for (const ref of ['#v1', '#feature']) assert.deepEqual(await filesOf(b, b.source(ref)), { a: '1' });
  b.repo.commit({ a: '2' });
  b.repo.git('tag', '-f', '-a', '-m', 'two', 'v1');
  b.repo.git('branch', '-D', 'feature');
  b.repo.git('branch', 'feature/x');
  for (const ref of ['#v1', '#feature/x']) assert.deepEqual(await filesOf(b, b.source(ref)), { a: '2' }, ref);
  const sha = b.repo.git('rev-parse', 'HEAD~1');
  assert.deepEqual(await filesOf(b, b.source(`#${sha}`)), { a: '1' });
});

test('a repository that a crash has left behind is made anew', async () => {
  await using b = await gitBench();
  b.repo.commit({ a: '1' });
  await filesOf(b, b.source());
  const [record] = b.refs.searchPrefix('git-remote', 'sha256:');
  {
    await using shared = await b.refs.getMutable(record!.id);
    await using view = await shared.mount(false);
    withMounted(view.mounts, (dir) => {
      mkdirSync(join(dir, 'refs/tags/main.lock'));
      writeFileSync(join(dir, 'shallow.lock'), '');
    });
  }
  b.repo.commit({ a: '2' });
  assert.deepEqual(await filesOf(b, b.source()), { a: '2' });
});

test('tokens and headers of the client, by host first; nobody else learns them', async () => {
  const authorization = `basic ${Buffer.from('x-access-token:t0ken').toString('base64')}`;
  await using b = await gitBench({ server: (root) => startGitServer(root, { authorization }) });
  b.repo.commit({ a: '1' });
  const attrs = { 'git.authtokensecret': 'GIT_AUTH_TOKEN', 'git.authheadersecret': 'GIT_AUTH_HEADER' };
  await assert.rejects(b.source('', attrs).cacheKey(0, b.context), (error: Error) => {
    assert.match(error.message, /could not read Username/);
    return true;
  });
  b.secrets.set('GIT_AUTH_TOKEN', 'other');
  b.secrets.set(`GIT_AUTH_TOKEN.${b.server.host}`, 't0ken\n');
  assert.deepEqual(await filesOf(b, b.source('', attrs)), { a: '1' });
  b.secrets.clear();
  b.secrets.set('GIT_AUTH_TOKEN', 'wrong');
  b.secrets.set('GIT_AUTH_HEADER', authorization);
  b.repo.commit({ a: '2' });
  assert.deepEqual(await filesOf(b, b.source('', attrs)), { a: '2' });
  const inUrl = { 'git.fullurl': `http://me:hunter2@${b.server.host}/main.git` };
  await assert.rejects(filesOf(b, b.source('#main', inUrl)), (error: Error) => {
    assert.match(error.message, /xxxxx/);
    assert.doesNotMatch(error.message, /hunter2/);
    return true;
  });
});

test('aborting ends git and leaves nothing', async () => {
  await using b = await gitBench({
    server: (root) => startGitServer(root, { stall: (path) => path.endsWith('git-upload-pack') }),
  });
  const sha = b.repo.commit({ a: '1' });
  const abort = new AbortController();
  const context = { signal: abort.signal, sessions: () => [] };
  const running = b.source(`#${sha}`).snapshot(context);
  while (!b.server.seen.some(({ path }) => path.endsWith('git-upload-pack')))
    await new Promise((done) => setTimeout(done, 10));
  const start = Date.now();
  abort.abort();
  await assert.rejects(running, { name: 'AbortError' });
  assert.ok(Date.now() - start < 5000);
  assert.deepEqual(processesWith(b.root), []);
  const left = await b.refs.diskUsage();
  assert.ok(left.every(({ inUse }) => !inUse));
});

/** Command lines of running programs that mention a text. */
function processesWith(text: string): string[] {
  const pids = readdirSync('/proc').filter((name) => /^\d+$/.test(name) && name !== String(process.pid));
  const lines = pids.map((pid) => {
    try {
      return readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ');
    } catch {
      return ''; // it has ended
    }
  });
  return lines.filter((line) => line.includes(text));
}

test('a client that does not answer keeps no other from the repository', async () => {
  await using b = await gitBench();
  b.repo.commit({ a: '1' });
  const abort = new AbortController();
  const silent = {
    ...b.services,
    secret: (_id: string, { signal }: { signal: AbortSignal }) =>
      new Promise<never>((_, fail) => signal.addEventListener('abort', () => fail(signal.reason))),
  };
  const attrs = { 'git.fullurl': `${b.server.url}/main.git`, 'git.authtokensecret': 'T' };
  const sha = b.repo.commit({ a: '2' });
  const spec = gitSourceSpec(`${b.server.host}/main.git#${sha}`, attrs);
  const waiting = new GitSource(spec, silent).snapshot({ signal: abort.signal, sessions: () => [] });
  assert.deepEqual(await filesOf(b, b.source('#main')), { a: '2' });
  abort.abort();
  await assert.rejects(waiting, { name: 'AbortError' });
});

test('hooks, files of the host and other transports are out of reach', async () => {
  await using b = await gitBench();
  b.repo.commit({ a: '1' });
  b.repo.git('submodule', 'add', '-q', `${b.repo.dir}/.git`, 'sub');
  b.repo.commit({});
  await assert.rejects(filesOf(b, b.source()), /transport 'file' not allowed/);
  b.repo.git('config', '-f', '.gitmodules', 'submodule.sub.url', `ext::sh -c touch% ${b.root}/pwned`);
  b.repo.commit({});
  await assert.rejects(filesOf(b, b.source()), /transport 'ext' not allowed|failed to update submodules/);
  b.repo.git('config', '-f', '.gitmodules', 'submodule.sub.url', '../main.git');
  b.repo.git('config', '-f', '.gitmodules', 'submodule.sub.update', `!touch ${b.root}/pwned`);
  b.repo.commit({});
  await filesOf(b, b.source()).catch(() => {}); // git may refuse it or take no notice
  assert.ok(!existsSync(join(b.root, 'pwned')));
  for (const [rest, attrs, error] of [
    ['h/r#-x', {}, /invalid git ref "-x"/],
    ['h/r', { 'git.fullurl': '-x@h:r' }, /invalid git remote/],
    ['h/r', { 'git.mtime': 'now' }, /invalid git\.mtime/],
  ] as const)
    assert.throws(() => gitSourceSpec(rest, attrs), { message: error });
});

test('metadata: a ref, and the objects behind it', async () => {
  await using b = await gitBench();
  const one = b.repo.commit({ a: '1' }, 'the message');
  b.repo.git('tag', '-a', '-m', 'words', 'v1');
  const tag = b.repo.git('rev-parse', 'v1');
  const plain = await b.source('#v1').metadata({ objects: false }, b.context);
  assert.deepEqual(plain, { ref: 'refs/tags/v1', checksum: tag, commitChecksum: one });
  const { commitObject, tagObject, ...rest } = await b.source('#v1').metadata({ objects: true }, b.context);
  assert.deepEqual(rest, plain);
  assert.match(Buffer.from(commitObject!).toString(), /^tree [\s\S]*\nthe message\n$/);
  assert.match(Buffer.from(tagObject!).toString(), /^object [\s\S]*\nwords\n$/);
  const head = await b.source().metadata({ objects: true }, b.context);
  assert.deepEqual(
    [head.ref, head.checksum, head.commitChecksum, head.tagObject],
    ['refs/heads/main', one, '', undefined],
  );
});

test('the trees of old versions: everybody may write what is no program', async () => {
  await using b = await gitBench();
  b.repo.commit({ a: '1', 'd/b': '2', run: '3' });
  b.repo.git('update-index', '--chmod=+x', 'run');
  b.repo.git('commit', '-q', '-m', 'program');
  const address = `${b.server.host}/main.git`;
  const attrs = { 'git.fullurl': `${b.server.url}/main.git`, 'git.mtime': 'commit' };
  const modes = async (writable: boolean) => {
    const source = new GitSource(gitSourceSpec(address, attrs, { writable }), b.services);
    const { key } = await source.cacheKey(0, b.context);
    await using ref = await source.snapshot(b.context);
    const of = (dir: string) => (name: string) => (lstatSync(join(dir, name)).mode & 0o7777).toString(8);
    return { key, modes: await inTree(ref, (dir) => ['a', 'd', 'd/b', 'run'].map(of(dir))) };
  };
  const current = await modes(false);
  assert.deepEqual(current.modes, ['644', '755', '644', '755']);
  const old = await modes(true);
  assert.deepEqual(old, { key: `${current.key}(writable)`, modes: ['666', '755', '666', '755'] });
});

/** A bench whose server fails the first requests of a kind, one after the other. */
function failingBench(path: RegExp, failures: (number | 'reset' | 'cut')[], asked: string[] = []) {
  const fail = (url: string) => {
    if (!path.test(url)) return undefined;
    asked.push(url);
    return failures.shift();
  };
  return gitBench({ server: (root) => startGitServer(root, { fail }) });
}

test('a server that fails for a moment is asked again', async () => {
  for (const [path, failures] of [
    [/info\/refs/, [503, 'reset']],
    [/git-upload-pack$/, ['cut', 502]],
  ] as const) {
    await using b = await failingBench(path, [...failures]);
    b.repo.commit({ a: '1' });
    const told: string[] = [];
    const progress = { log: (_: 1 | 2, data: Uint8Array) => void told.push(Buffer.from(data).toString()) };
    await using ref = await b.source().snapshot({ ...b.context, progress });
    assert.equal(await inTree(ref, (dir) => readFileSync(join(dir, 'a'), 'utf8')), '1');
    const pauses = told.filter((text) => text.startsWith('retrying'));
    assert.deepEqual(pauses, ['retrying in 1s\n', 'retrying in 2s\n'], told.join(''));
  }
});

test('a server that goes on failing is given up after a few times', async () => {
  const asked: string[] = [];
  await using b = await failingBench(/info\/refs/, Array(10).fill(500), asked);
  b.repo.commit({ a: '1' });
  await assert.rejects(b.source('#main').cacheKey(0, b.context), /returned error: 500/);
  assert.equal(asked.length, 4);
});

test('no second attempt where it cannot help, and none once the build is cancelled', async () => {
  for (const [status, text] of [
    [401, /could not read Username|Authentication failed/],
    [403, /403/],
    [404, /not found/],
  ] as const) {
    const asked: string[] = [];
    await using b = await failingBench(/info\/refs/, Array(10).fill(status), asked);
    await assert.rejects(b.source('#main').cacheKey(0, b.context), text);
    assert.equal(asked.length, 1, String(status));
  }
  const asked: string[] = [];
  await using b = await failingBench(/info\/refs/, Array(10).fill('reset'), asked);
  b.repo.commit({ a: '1' });
  await assert.rejects(b.source('#none').cacheKey(0, { ...b.context, signal: AbortSignal.timeout(600) }));
  assert.equal(asked.length, 1);
});
