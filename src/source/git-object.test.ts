import assert from 'node:assert/strict';
import { test } from 'node:test';
import { committerTime, objectName, parseGitObject } from './git-object.ts';

const TREE = '4b825dc642cb6eb9a060e54bf8d69288fbee4904';
const COMMIT = `tree ${TREE}
author A <a@b> 1500000000 +0000
committer C <D> <c@d> 1500000060 -0330
gpgsig -----BEGIN SSH SIGNATURE-----
 AAAA
 -----END SSH SIGNATURE-----

héllo

more
`;

test('a commit: headers, message, signature and what it is about', () => {
  const object = parseGitObject(Buffer.from(COMMIT));
  assert.equal(object.type, 'commit');
  assert.deepEqual(object.headers.get('tree'), [TREE]);
  assert.equal(object.message, 'héllo\n\nmore');
  assert.equal(object.signature, '-----BEGIN SSH SIGNATURE-----\nAAAA\n-----END SSH SIGNATURE-----');
  assert.equal(Buffer.from(object.signedData).toString(), COMMIT.replace(/gpgsig[\s\S]*?END.*\n/, ''));
  assert.equal(committerTime(Buffer.from(COMMIT)), 1500000060n);
  assert.equal(committerTime(Buffer.from(COMMIT.replace('-0330', 'z'))), undefined);
  // What git says of the same bytes: `git hash-object -t commit --stdin`.
  const plain = parseGitObject(
    Buffer.from(`tree ${TREE}\nauthor A <a@b> 1 +0000\ncommitter A <a@b> 1 +0000\n\nx\n`),
  );
  assert.equal(objectName(plain, TREE), '4fe2fb001bf19d5d5fc7ace287a1e4b83670a5e3');
});

test('a tag, and objects that are none', () => {
  const head = `object ${TREE}\ntype commit\ntag v1\ntagger T <t@u> 1 +0000\n\nwords\n`;
  const signature = '-----BEGIN PGP SIGNATURE-----\n\nx\n-----END PGP SIGNATURE-----\n';
  const object = parseGitObject(Buffer.from(head + signature));
  assert.equal(object.type, 'tag');
  assert.equal(object.message, 'words');
  assert.equal(object.signature, signature);
  assert.equal(Buffer.from(object.signedData).toString(), head);
  assert.throws(() => parseGitObject(Buffer.from('')), {
    message: 'invalid commit object: missing tree header',
  });
  assert.throws(() => parseGitObject(Buffer.from('object x\ntype y\n\n')), /missing tag header/);
});
