import assert from 'node:assert/strict';
import { test } from 'node:test';
import { objectAddress } from './address.ts';

function addressOf(bucket: string, region: string, endpointUrl = '', usePathStyle = false): string {
  return objectAddress({ bucket, region, endpointUrl, usePathStyle })('blobs/sha256:ff').href;
}

test('buckets are hosts, or parts of the path where they cannot be', () => {
  assert.equal(addressOf('b-1', 'eu-west-1'), 'https://b-1.s3.eu-west-1.amazonaws.com/blobs/sha256%3Aff');
  assert.equal(addressOf('b.1', 'eu-west-1'), 'https://s3.eu-west-1.amazonaws.com/b.1/blobs/sha256%3Aff');
  assert.equal(
    addressOf('b-1', 'cn-north-1'),
    'https://b-1.s3.cn-north-1.amazonaws.com.cn/blobs/sha256%3Aff',
  );
  assert.equal(
    addressOf('bbb', 'r', 'http://s3.local:9000/x/'),
    'http://bbb.s3.local:9000/x/blobs/sha256%3Aff',
  );
  assert.equal(
    addressOf('bbb', 'r', 'http://s3.local:9000/x/', true),
    'http://s3.local:9000/x/bbb/blobs/sha256%3Aff',
  );
  assert.equal(addressOf('bbb', 'r', 'http://10.0.0.1:9000'), 'http://10.0.0.1:9000/bbb/blobs/sha256%3Aff');
  assert.equal(addressOf('bbb', 'r', 'http://[::1]:9000'), 'http://[::1]:9000/bbb/blobs/sha256%3Aff');
});

test('queries keep their order; names that are no objects are refused', () => {
  const at = objectAddress({ bucket: 'bbb', region: 'r', endpointUrl: 'http://h', usePathStyle: true });
  assert.equal(at('a b', { uploads: '', 'x y': '1+1' }).href, 'http://h/bbb/a%20b?uploads=&x%20y=1%2B1');
  for (const key of ['../other/x', 'a/./b', '..'])
    assert.throws(() => at(key), /cannot be the name of an object/);
  assert.throws(() => addressOf('', 'r'), /bucket is empty/);
});
