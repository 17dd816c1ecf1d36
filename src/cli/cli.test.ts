import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { checkAllow, parseLocals, parseOpts, parseSecret, parseSsh } from './build-options.ts';
import { writeMetadataFile } from './metadata-file.ts';
import { parseOutput } from './outputs.ts';
import { sourceSnippet } from './print-error.ts';
import { BLANKS, TABS, tabulate } from './table.ts';
import { parseTemplate } from './template.ts';

const dir = mkdtempSync(join(tmpdir(), 'bkt-cli-'));
after(() => rmSync(dir, { recursive: true, force: true }));

test('columns end at tab stops, a line without the cell ends a column', () => {
  assert.equal(tabulate('ID:\tx\nPlatforms:\ty\n\nA:\tb\n', TABS), 'ID:\t\tx\nPlatforms:\ty\n\nA:\tb\n');
  assert.equal(
    tabulate('Labels:\n\ta:\t1\n\tlonger-key:\t2\n', TABS),
    'Labels:\n\ta:\t\t1\n\tlonger-key:\t2\n',
  );
  assert.equal(tabulate('BuildKit:\tv\nDockerfile:\tw\n', BLANKS), 'BuildKit:   v\nDockerfile: w\n');
});

test('templates', () => {
  const data = [
    { id: 'a', size: 1 },
    { id: 'b', size: 2 },
  ];
  assert.equal(parseTemplate('json')(data), JSON.stringify(data));
  assert.equal(parseTemplate('{{range .}}{{.ID}}={{.Size}} {{end}}')(data), 'a=1 b=2 ');
  assert.equal(
    parseTemplate('{{json .BuildkitVersion.Version}}')({ buildkitVersion: { version: 'v1' } }),
    '"v1"',
  );
  assert.throws(() => parseTemplate('{{if .}}x{{end}}'), /not understood/);
  assert.throws(() => parseTemplate('{{.Foo'), /^BuildError: template: :1: unclosed action$/);
  assert.throws(() => parseTemplate('{{.Nope}}')({}), /can't evaluate field Nope/);
});

test('frontend options', () => {
  const env = { SET: 'v', SOURCE_DATE_EPOCH: '0' };
  assert.deepEqual(parseOpts(['target=x', 'build-arg:SET', 'build-arg:UNSET', 'build-arg:K=a=b'], env), {
    'build-arg:SOURCE_DATE_EPOCH': '0',
    target: 'x',
    'build-arg:SET': 'v',
    'build-arg:K': 'a=b',
  });
  assert.throws(() => parseOpts(['nokey'], {}), /invalid opt: invalid value nokey/);
});

test('local folders', () => {
  assert.deepEqual(parseLocals([`context=${dir}`], statSync), { context: dir });
  assert.throws(() => parseLocals(['context=/no/such'], statSync), /no such file or directory/);
  assert.throws(() => parseLocals(['x=/etc/passwd'], statSync), /not a directory/);
});

test('secrets', () => {
  assert.deepEqual(parseSecret('id=a,src=/x'), { id: 'a', file: '/x' });
  assert.deepEqual(parseSecret('ID=a,env=V'), { id: 'a', env: 'V' });
  assert.deepEqual(parseSecret('type=env,id=a,src=V'), { id: 'a', env: 'V' });
  assert.throws(() => parseSecret('id=a,type=magic'), /unsupported secret type "magic"/);
  assert.throws(() => parseSecret('id=a,foo=b'), /unexpected key 'foo' in 'foo=b'/);
  assert.throws(() => parseSecret('foo'), /invalid field 'foo' must be a key=value pair/);
});

test('ssh', () => {
  assert.deepEqual(parseSsh('default'), { id: 'default', paths: [], raw: false });
  assert.deepEqual(parseSsh('k=/a,/b'), { id: 'k', paths: ['/a', '/b'], raw: false });
  assert.deepEqual(parseSsh('s=/sock,raw=true'), { id: 's', paths: ['/sock'], raw: true });
  assert.throws(() => parseSsh('s=/a,/b,raw=1'), /exactly one socket path/);
  assert.throws(() => parseSsh('s=/a,raw=x'), /invalid value for 'raw': x/);
});

test('entitlements', () => {
  checkAllow(['network.host', 'security.insecure', 'device', 'device=x']);
  assert.throws(() => checkAllow(['root']), /unknown entitlement root/);
});

test('outputs', async () => {
  const pipe = { isTTY: false };
  assert.deepEqual(parseOutput('type=image,"name=a,b",push=true', pipe), {
    type: 'image',
    attrs: { name: 'a,b', push: 'true' },
  });
  assert.deepEqual(parseOutput('type=local,dest=out', pipe), { type: 'local', attrs: {}, outputDir: 'out' });
  const file = join(dir, 'x.tar');
  const tar = parseOutput(`type=oci,DEST=${file},Name=n`, pipe);
  assert.deepEqual(tar.attrs, { name: 'n' });
  assert.equal(statSync(file).size, 0);
  const sink = await tar.output!({});
  await sink!.write(Buffer.from('abc'));
  await sink!.write(Buffer.alloc(1 << 20));
  await sink!.close();
  assert.equal(statSync(file).size, 3 + (1 << 20));
  const refused: [string, RegExp][] = [
    ['dest=x', /--output requires type=<type>/],
    ['type=local', /output directory is required for local exporter/],
    ['type=oci,output=x', /output=x not supported for --output, you meant dest=x\?/],
    [`type=tar,dest=${dir}`, /destination file is a directory/],
    ['type=tar,dest=/no/such/dir/x', /open \/no\/such\/dir\/x: no such file or directory/],
    ['type=image,dest=x', /output x is not supported by image exporter/],
    ['type=oci,tar=false', /output directory is required for oci exporter/],
    ['foo', /invalid value foo/],
  ];
  for (const [text, pattern] of refused) assert.throws(() => parseOutput(text, pipe), pattern, text);
  assert.throws(() => parseOutput('type=docker', { isTTY: true }), /refusing to write to console/);
});

test('metadata file', () => {
  const path = join(dir, 'md.json');
  const base64 = (value: unknown): string => Buffer.from(JSON.stringify(value)).toString('base64');
  writeMetadataFile(path, {
    'z.text': 'plain',
    'b.object': base64({ digest: 'x', size: 1 }),
    'a.list': base64([1]),
    'c.empty': base64({}),
  });
  assert.equal(
    readFileSync(path, 'utf8'),
    `{\n  "a.list": "WzFd",\n  "b.object": {\n    "digest": "x",\n    "size": 1\n  },\n  "c.empty": "e30=",\n  "z.text": "plain"\n}`,
  );
  assert.throws(() => writeMetadataFile('/no/such/dir/x', {}), /failed to write/);
});

test('source lines of an error', () => {
  const data = Buffer.from('one\ntwo\nthree\nfour\nfive\nsix\n').toString('base64');
  const at = (start: number, end: number) => ({ start: { line: start }, end: { line: end } });
  const rule = '-'.repeat(20);
  assert.equal(
    sourceSnippet({ info: { filename: 'Dockerfile', data }, ranges: [at(2, 2)] }),
    `Dockerfile:2\n${rule}\n   1 |     one\n   2 | >>> two\n   3 |     three\n   4 |     four\n${rule}`,
  );
  assert.equal(
    sourceSnippet({ info: { filename: 'D', data }, ranges: [at(3, 4)] }),
    `D:3\n${rule}\n   2 |     two\n   3 | >>> three\n   4 | >>> four\n   5 |     five\n${rule}`,
  );
  assert.equal(sourceSnippet({ info: { filename: 'D', data }, ranges: [at(70, 70)] }), undefined);
  assert.equal(sourceSnippet({ ranges: [at(1, 1)] }), undefined);
});
