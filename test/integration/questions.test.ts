// Warnings about a Dockerfile, and questions that are answered instead of building it.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { Daemon, TempDir } from './harness.ts';

const RULES = 'https://docs.docker.com/go/dockerfile/rule/';
const dir = new TempDir();
let daemon: Daemon;

before(async () => {
  daemon = await Daemon.start();
  dir.write({
    'app/Dockerfile':
      '# app is all there is\nFROM scratch AS app\nARG WHO=you\nCOPY secret.txt /$WHERE\nCMD greet\n',
    'app/secret.txt': 'x',
    'app/.dockerignore': 'secret.*\n',
  });
});

after(async () => {
  await daemon?.[Symbol.asyncDispose]();
  dir[Symbol.dispose]();
});

const ask = (name: string, ...args: string[]) =>
  daemon.build(dir.join('app'), ['--opt', `requestid=frontend.${name}`, '--progress=quiet', ...args]);

test('outline, targets and describe print tables', async () => {
  const outline = await ask('outline', '--opt', 'build-arg:WHO=me');
  assert.equal(
    outline.stdout.toString(),
    'TARGET:      app\nDESCRIPTION: is all there is\n\nBUILD ARG   VALUE   DESCRIPTION\nWHO         me      \n\n',
  );
  const targets = await ask('targets');
  assert.equal(targets.stdout.toString(), 'TARGET        DESCRIPTION\napp (default) is all there is\n');
  const known = await ask('subrequests.describe');
  assert.match(known.stdout.toString(), /^outline +1\.0\.0 +List all parameters/m);
});

test('lint names what is wrong, with the lines', async () => {
  const { stdout } = await ask('lint');
  const found = [...stdout.toString().matchAll(/^WARNING: (\w+) - (\S+)$/gm)].map(([, rule, url]) => [
    rule,
    url,
  ]);
  assert.deepEqual(found.sort(), [
    ['CopyIgnoredFile', `${RULES}copy-ignored-file/`],
    ['JSONArgsRecommended', `${RULES}json-args-recommended/`],
    ['UndefinedVar', `${RULES}undefined-var/`],
  ]);
  assert.match(stdout.toString(), /^ {3}5 \| >>> CMD greet$/m);
});

test('a question that nobody knows', async () => {
  const { code, stderr } = await daemon.tryBuild(dir.join('app'), ['--opt', 'requestid=frontend.x']);
  assert.equal(code, 1);
  assert.match(stderr, /unsupported request frontend\.x/);
});

test('a build warns while it runs, and fails on warnings when told to', async () => {
  dir.write({ 'plain/Dockerfile': 'FROM scratch\nCMD greet\n' });
  const { stderr } = await daemon.build(dir.join('plain'), ['--progress=plain']);
  assert.match(stderr, /WARN: JSONArgsRecommended: .* \(line 2\)/);
  const strict = ['--opt', 'build-arg:BUILDKIT_DOCKERFILE_CHECK=error=true'];
  const failed = await daemon.tryBuild(dir.join('plain'), strict);
  assert.equal(failed.code, 1);
  assert.match(failed.stderr, /lint violation found for rules: JSONArgsRecommended/);
});
