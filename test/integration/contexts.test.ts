// Contexts that are no plain folder: from the web, under names of their own, with times of their own.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import { after, before, test } from 'node:test';
import { Daemon, TempDir } from './harness.ts';

let daemon: Daemon;
let server: Server;
let address: string;
const dir = new TempDir();
const MODIFIED = 1_500_000_000;

/** A packed tree whose files are of `MODIFIED`. */
function archive(flag: string, path: string): Buffer {
  return execFileSync('tar', [`--mtime=@${MODIFIED}`, `-c${flag}`, '-C', path, '.'], { maxBuffer: 1 << 26 });
}

before(async () => {
  daemon = await Daemon.start();
  dir.write({
    'web/Dockerfile': 'FROM scratch\nCOPY file /\n',
    'web/file': 'top',
    'web/sub/file': 'below',
    'ctx/Dockerfile': 'FROM scratch\nCOPY --from=named context /download\n',
  });
  const files: Record<string, string | Buffer> = {
    '/x.gz': archive('z', dir.join('web')),
    '/x.bz2': archive('j', dir.join('web')),
    '/x.xz': archive('J', dir.join('web')),
    '/x.tar': archive('', dir.join('web')),
    '/single': 'FROM scratch\nCOPY context /self\n',
  };
  server = createServer(({ url = '' }, answer) => {
    const dated = url.startsWith('/dated');
    if (dated) answer.setHeader('last-modified', new Date(1_400_000_000_000).toUTCString());
    const body = files[url.replace('/dated', '')];
    if (body === undefined) answer.statusCode = 404;
    answer.end(body);
  });
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
  const bound = server.address();
  address = `http://127.0.0.1:${typeof bound === 'object' && bound ? bound.port : 0}`;
});

after(async () => {
  await daemon?.[Symbol.asyncDispose]();
  server?.close();
  dir[Symbol.dispose]();
});

let builds = 0;

/** Builds without a folder of the client. @returns where the result lies */
async function build(...options: string[]): Promise<string> {
  const out = dir.join(`out${builds++}`);
  const opts = options.flatMap((option) => ['--opt', option]);
  const command = ['build', '--frontend', 'dockerfile.v0', ...opts, '--output', `type=local,dest=${out}`];
  const { code, stderr } = await daemon.buildctl(command);
  assert.equal(code, 0, stderr);
  return out;
}

test('a context from the web: archives of all kinds, or the Dockerfile itself', async () => {
  for (const name of ['x.gz', 'x.bz2', 'x.xz', 'x.tar'])
    assert.equal(readFileSync(`${await build(`context=${address}/${name}`)}/file`, 'utf8'), 'top', name);
  const scoped = await build(`context=${address}/x.gz`, 'contextsubdir=sub');
  assert.equal(readFileSync(`${scoped}/file`, 'utf8'), 'below');
  assert.match(readFileSync(`${await build(`context=${address}/single`)}/self`, 'utf8'), /^FROM scratch/);
});

test('a named context from the web is the downloaded file', async () => {
  const out = dir.join('named');
  await daemon.build(dir.join('ctx'), [
    ...['--opt', `context:named=${address}/x.gz`, '--output', `type=local,dest=${out}`],
  ]);
  assert.ok(readFileSync(`${out}/download`).equals(archive('z', dir.join('web'))));
});

test('a named folder has an ignore file of its own, and only what is needed is fetched', async () => {
  dir.write({
    'more/.dockerignore': 'secret\n',
    'more/secret': '',
    'more/deep/kept': '',
    'more/unused': 'x'.repeat(1000),
    'own/Dockerfile': 'FROM scratch\nCOPY --from=more . /all\nCOPY --from=few /deep /deep\n',
  });
  const out = dir.join('own-out');
  await daemon.build(dir.join('own'), [
    ...['--local', `more=${dir.join('more')}`, '--local', `few=${dir.join('more')}`],
    ...['--opt', 'context:more=local:more', '--opt', 'context:few=local:few'],
    ...['--output', `type=local,dest=${out}`],
  ]);
  assert.deepEqual(readdirSync(`${out}/all`).sort(), ['.dockerignore', 'deep', 'unused']);
  assert.deepEqual(readdirSync(`${out}/deep`), ['kept']);
});

test('a named context that is not there is told with the line that needs it', async () => {
  const { code, stderr } = await daemon.tryBuild(dir.join('ctx'), ['--opt', 'context:named=local:nowhere']);
  assert.equal(code, 1);
  assert.match(stderr, /2 \| >>> COPY --from=named context \/download/);
  assert.match(stderr, /no access allowed to dir "nowhere"/);
  const web = ['--opt', `context:named=${address}/nothing`];
  assert.match(
    (await daemon.tryBuild(dir.join('ctx'), web)).stderr,
    /failed to load cache key: invalid response status 404/,
  );
});

test('an owner by name is refused where there are no users to look it up in', async () => {
  dir.write({ 'owner/Dockerfile': 'FROM scratch\nCOPY --chown=foo Dockerfile /\n' });
  const { stderr } = await daemon.tryBuild(dir.join('owner'));
  assert.match(stderr, /failed to solve: invalid user index: -1$/m);
});

test('SOURCE_DATE_EPOCH is the time of the context, of a named one or of a stage', async () => {
  const created = async (...options: string[]): Promise<number> => {
    const layout = dir.join(`layout${builds++}`);
    const opts = options.flatMap((option) => ['--opt', option]);
    const output = ['--output', `type=oci,tar=false,dest=${layout}`];
    const { code, stderr } = await daemon.buildctl([
      ...['build', '--frontend', 'dockerfile.v0', '--local', `dockerfile=${dir.join('epoch')}`],
      ...['--local', `context=${dir.join('epoch')}`, ...opts, ...output],
    ]);
    assert.equal(code, 0, stderr);
    const config = execFileSync('skopeo', ['inspect', '--config', `oci:${layout}:latest`]).toString();
    return Date.parse(JSON.parse(config).created) / 1000;
  };
  const text = `FROM scratch AS src\nADD ${address}/dated/single /\nFROM scratch\nCOPY Dockerfile /\n`;
  dir.write({ 'epoch/Dockerfile': text });
  const main = (path: string): Promise<number> =>
    created('build-arg:SOURCE_DATE_EPOCH=context', `context=${address}${path}`);
  assert.equal(await main('/dated/x.xz'), 1_400_000_000);
  assert.equal(await main('/x.xz'), MODIFIED);
  const named = `context:src2=${address}/x.bz2`;
  assert.equal(await created('build-arg:SOURCE_DATE_EPOCH=src2', named), MODIFIED);
  assert.equal(await created('build-arg:SOURCE_DATE_EPOCH=src'), 1_400_000_000);
  // A folder has no time: the build's own is taken.
  assert.ok((await created('build-arg:SOURCE_DATE_EPOCH=context')) > 1_600_000_000);
});
