// What the daemon asks of clients of the SDK while it builds: parts of folders, sources, exports.
import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync, statSync, symlinkSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { after, before, test } from 'node:test';
import {
  BuildError,
  type Client,
  connect,
  type LocalFolder,
  type SourceDecision,
  type SourceQuestion,
} from '../../src/client/index.ts';
import { copy, git, http, image, local, mkfile, scratch, type State } from '../../src/llb/index.ts';
import { Daemon, OUR_DAEMON, Registry, TempDir } from './harness.ts';

let registry: Registry;
let daemon: Daemon;
let client: Client;
let server: Server;
let base = '';
const dir = new TempDir();

before(async () => {
  registry = await Registry.start();
  await registry.pushBusybox();
  server = createServer((request, response) => void response.end(`of ${request.url}`));
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
  base = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  daemon = await Daemon.start({ config: registry.config });
  client = await connect(daemon.address);
});

after(async () => {
  await client?.close();
  await daemon?.[Symbol.asyncDispose]();
  await registry?.[Symbol.asyncDispose]();
  server?.close();
  dir[Symbol.dispose]();
});

async function failure(work: PromiseLike<unknown>): Promise<BuildError> {
  const error = await work.then(
    () => assert.fail('nothing has failed'),
    (reason: unknown) => reason,
  );
  assert.ok(error instanceof BuildError, String(error));
  return error;
}

let count = 0;

/** Files of `context` as a build gets them. */
async function sent(folder: Omit<LocalFolder, 'dir'>, tree = local('context')): Promise<string> {
  const out = dir.join(`sent-${count++}`);
  await client.solve({
    definition: await tree.marshal(),
    locals: { context: { dir: dir.join('folder'), ...folder } },
    exports: [{ type: 'local', dir: out }],
  });
  return out;
}

const names = (path: string): string[] => readdirSync(path, { recursive: true, encoding: 'utf8' }).sort();

test('parts of a folder: patterns, links, and a function that sees each entry', async () => {
  dir.write({ 'folder/a.ts': 'a', 'folder/a.js': 'a', 'folder/sub/b.ts': 'b', 'folder/sub/c': 'c' });
  symlinkSync('sub/c', dir.join('folder/link'));
  assert.deepEqual(names(await sent({ includePatterns: ['**/*.ts'] })), ['a.ts', 'sub', 'sub/b.ts']);
  assert.deepEqual(names(await sent({ excludePatterns: ['sub', '*.js'] })), ['a.ts', 'link']);
  assert.deepEqual(names(await sent({ followPaths: ['link'] })), ['link', 'sub', 'sub/c']);
  const seen: string[] = [];
  const out = await sent({
    map: ({ path, type, mode, size }) => {
      seen.push(`${path} ${type} ${(mode & 0o777).toString(8)} ${type === 'file' ? size : ''}`.trim());
      if (path === 'a.ts') return { mode: 0o755, modTime: 1_000_000_000n };
      return path !== 'sub' && path !== 'a.js';
    },
  });
  assert.deepEqual(names(out), ['a.ts', 'link']);
  assert.equal(statSync(`${out}/a.ts`).mode & 0o777, 0o755);
  assert.equal(statSync(`${out}/a.ts`).mtimeMs, 1000);
  assert.deepEqual(seen, ['a.js file 644 1', 'a.ts file 644 1', 'link symlink 777', 'sub directory 755']);
});

test('what is not offered of a folder cannot be asked for', async () => {
  const everything = local('context', { excludePatterns: ['*', '!sub/c', '!a.ts'] });
  assert.deepEqual(names(await sent({ excludePatterns: ['sub'] }, everything)), ['a.ts']);
  const followed = local('context', { followPaths: ['link'] });
  assert.deepEqual(names(await sent({ excludePatterns: ['sub'] }, followed)), ['link']);
});

/** Builds `tree` with `decide` as its policy. */
async function below(
  tree: State,
  decide: (question: SourceQuestion, index: number) => SourceDecision,
): Promise<SourceQuestion[]> {
  const asked: SourceQuestion[] = [];
  await client.solve({
    definition: await tree.marshal({ platform: 'linux/amd64' }),
    onSource: (question) => decide(question, asked.push(question) - 1),
    exports: [{ type: 'local', dir: dir.join(`below-${count++}`) }],
  });
  return asked;
}

test('the client is asked about each source; what it looks up comes with the next question', async () => {
  const tree = scratch().file(copy(http(`${base}/x`, { filename: 'x' }), 'x', '/'));
  const [first, second, ...more] = await below(tree, (_question, index) =>
    index === 0 ? { lookUp: { httpChecksum: { algorithm: 'sha256', suffix: Buffer.from('!') } } } : 'allow',
  );
  assert.equal(more.length, 0);
  assert.equal(first?.source.identifier, `${base}/x`);
  assert.equal(first?.source.attrs['http.filename'], 'x');
  assert.equal(first?.http, undefined);
  assert.match(second?.http?.digest ?? '', /^sha256:[0-9a-f]{64}$/);
  assert.match(second?.http?.checksum?.digest ?? '', /^sha256:/);
  assert.notEqual(second?.http?.checksum?.digest, second?.http?.digest);

  // BuildKit's daemon ends when it looks for what is said of an image that is no index.
  const lookUp = OUR_DAEMON ? ({ attestations: true } as const) : {};
  const looked = await below(scratch().file(copy(image('busybox'), '/bin/true', '/')), (_question, index) =>
    index === 0 ? { lookUp } : 'allow',
  );
  assert.equal(looked[0]?.source.identifier, 'docker-image://docker.io/library/busybox:latest');
  assert.deepEqual(looked[0]?.platform, { os: 'linux', architecture: 'amd64' });
  assert.match(looked[1]?.image?.digest ?? '', /^sha256:/);
  assert.equal(JSON.parse(Buffer.from(looked[1]?.image?.config ?? []).toString()).os, 'linux');
});

test('a decision may refuse a source, with reasons, or put another in its place', async () => {
  const tree = scratch().file(copy(http(`${base}/from`, { filename: 'f' }), 'f', '/'));
  const out = dir.join('converted');
  const asked: string[] = [];
  await client.solve({
    definition: await tree.marshal(),
    onSource: async ({ source: { identifier, attrs } }) => {
      asked.push(identifier);
      return identifier.endsWith('/from') ? { convert: { identifier: `${base}/to`, attrs } } : 'allow';
    },
    exports: [{ type: 'local', dir: out }],
  });
  assert.deepEqual(asked, [`${base}/from`, `${base}/to`]);
  assert.equal(readFileSync(`${out}/f`, 'utf8'), 'of /to');

  const plain = await failure(below(tree, () => 'deny'));
  assert.match(plain.message, /not allowed by policy: action DENY/);
  const reasoned = await failure(below(tree, () => ({ deny: ['not from there', 'never'] })));
  const detail = reasoned.details.find(
    (one) => 'type' in one && one.type === 'policysession.DecisionResponse',
  );
  assert.deepEqual(
    detail && 'value' in detail ? (detail.value as { denyMessages: unknown }).denyMessages : [],
    [{ message: 'not from there' }, { message: 'never' }],
  );
  const thrown = await failure(
    below(tree, () => {
      throw new BuildError('who is asking');
    }),
  );
  assert.match(thrown.message, /who is asking/);
  const odd = await failure(below(tree, () => 'perhaps' as never));
  assert.match(odd.message, /"perhaps" decides nothing about a source/);
  assert.match((await failure(below(git('https://none.invalid/x.git'), () => 'deny'))).message, /DENY/);
});

test('exports are chosen by the result; all answers are told before the build ends', async () => {
  const [archive, folder, layout] = ['chosen.tar', 'chosen', 'chosen-layout'].map((name) => dir.join(name));
  const answers: Record<string, string>[] = [];
  let refs: readonly string[] = [];
  await client.build(
    async (gateway) => {
      const definition = await scratch().file(mkfile('/f', 'chosen')).marshal();
      const { ref } = await gateway.solve({ definition });
      return { ref, metadata: { mark: 'x' } };
    },
    {
      exports: [{ type: 'local', dir: dir.join('asked') }],
      chooseExports: ({ metadata, refs: all }) => {
        refs = all;
        assert.equal(Buffer.from(metadata.mark ?? []).toString(), 'x');
        return [
          { type: 'oci', dest: archive! },
          { type: 'local', dir: folder! },
          { type: 'oci', dir: layout! },
        ];
      },
      onExported: (answer) => void answers.push({ ...answer }),
    },
  );
  assert.equal(refs.length, 1);
  assert.equal(readFileSync(`${dir.join('asked')}/f`, 'utf8'), 'chosen');
  assert.equal(readFileSync(`${folder}/f`, 'utf8'), 'chosen');
  assert.ok(statSync(archive!).size > 1000);
  assert.ok(existsSync(`${layout}/index.json`));
  assert.equal(answers.length, 1);
  assert.match(answers[0]!['containerimage.digest'] ?? '', /^sha256:/);
});

test('a choice that cannot be, and an end that is refused, fail the build', async () => {
  const definition = await scratch().file(mkfile('/f', '')).marshal();
  const chosen = (type: string) =>
    failure(client.solve({ definition, chooseExports: () => [{ type } as never] }));
  assert.match((await chosen('nothing')).message, /unknown type of export "nothing"/);
  assert.match((await chosen('oci')).message, /needs either dest or dir/);
  const refused = client.solve({
    definition,
    onExported: async () => Promise.reject(new BuildError('it is not signed')),
  });
  assert.match((await failure(refused)).message, /it is not signed/);
});
