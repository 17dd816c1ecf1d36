import assert from 'node:assert/strict';
import { test } from 'node:test';
import { convert, DockerfileError, lint, parse, parseInstructions } from '../index.ts';

const CONFIG = {
  os: 'linux',
  architecture: 'amd64',
  config: { Env: ['PATH=/bin'] },
  rootfs: { type: 'layers', diff_ids: [`sha256:${'2'.repeat(64)}`] },
};

test('text and bytes, parsed or not, give the same', () => {
  const text = 'FROM scratch\nLABEL a=\u00e9\n';
  assert.deepEqual(parse(Buffer.from(text)), parse(text));
  assert.deepEqual(parseInstructions(parse(text)), parseInstructions(Buffer.from(text)));
});

test('a conversion says what it depends on', async () => {
  const asked: string[] = [];
  const { definition, imageConfig, baseImageConfig, platform, epoch, outline, warnings } = await convert(
    'ARG BASE=alpine\nFROM $BASE AS App\nARG SOURCE_DATE_EPOCH=5\nRUN --mount=type=secret,id=t true\nFROM app\nFROM alpine\n',
    {
      target: 'app',
      platform: 'linux/arm64',
      buildArgs: { BASE: 'x/y:1' },
      labels: { a: 'b' },
      uniqueId: 'u',
      resolveImage: (reference, options) => {
        asked.push(`${reference} ${options.platform} ${options.resolveMode}`);
        return { config: JSON.stringify({ ...CONFIG, architecture: 'arm64' }) };
      },
    },
  );
  assert.deepEqual(asked, ['docker.io/x/y:1 linux/arm64 default']);
  assert.ok(definition.length > 0);
  assert.equal(platform, 'linux/arm64');
  assert.equal(epoch, undefined);
  assert.deepEqual(JSON.parse(Buffer.from(imageConfig).toString()).config.Labels, { a: 'b' });
  assert.equal(JSON.parse(Buffer.from(baseImageConfig ?? []).toString()).architecture, 'arm64');
  assert.deepEqual(
    outline.secrets.map(({ name }) => name),
    ['t'],
  );
  assert.deepEqual(
    warnings.map(({ rule }) => rule),
    ['StageNameCasing'],
  );
});

test('a file of the labs channel may name devices', async () => {
  const file = 'FROM scratch\nRUN --device=a.b/c true\n';
  await assert.rejects(convert(file), /^DockerfileError: device feature is only supported in /);
  await convert(`# syntax=docker/dockerfile:labs\n${file}`);
});

test('options that make no sense, failed look-ups and aborts', async () => {
  await assert.rejects(
    convert('FROM scratch', { platform: 'x' }),
    /^DockerfileError: failed to parse platform x: /,
  );
  await assert.rejects(convert('FROM scratch', { check: 'x' }), DockerfileError);
  const resolveImage = () => Promise.reject(new Error('no such image'));
  await assert.rejects(convert('FROM scratch\nFROM a', { resolveImage }), (error: DockerfileError) => {
    assert.equal(error.message, 'a: no such image');
    assert.equal(error.locations[0]?.[0]?.start.line, 2);
    return true;
  });
  const abort = new AbortController();
  const reason = new Error('enough');
  const slow = () => {
    abort.abort(reason);
    return Promise.reject(new Error('stopped'));
  };
  await assert.rejects(convert('FROM a', { resolveImage: slow, signal: abort.signal }), reason);
});

test('lint needs no images, and says why a file can not be built', async () => {
  const { warnings, error } = await lint('FROM a\nWORKDIR x\nCMD y\nFROM nothing\nCOPY --from=b/c d e\n');
  assert.deepEqual(
    warnings.map(({ rule }) => rule),
    ['WorkdirRelativePath', 'JSONArgsRecommended'],
  );
  assert.equal(error, undefined);
  const broken = await lint('FROM a\nADD b\n');
  assert.match(broken.error?.message ?? '', /ADD requires at least two arguments/);
  assert.equal(broken.error?.locations[0]?.[0]?.start.line, 2);
});
