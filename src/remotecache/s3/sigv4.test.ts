import assert from 'node:assert/strict';
import { test } from 'node:test';
import { encodePath, sha256Hex, signV4 } from './sigv4.ts';

// The examples of AWS's documentation: "Signature Calculations for the Authorization Header" of S3, and the test suite
// of Signature Version 4.
const S3 = {
  accessKeyId: 'AKIAIOSFODNN7EXAMPLE',
  secretAccessKey: 'wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY',
  sessionToken: '',
};
const SCOPE = { region: 'us-east-1', service: 's3', at: new Date('2013-05-24T00:00:00Z') };
const EMPTY = sha256Hex('');

interface Example {
  readonly method?: string;
  readonly path: string;
  readonly headers?: Record<string, string>;
  readonly body?: string;
  readonly names: string;
  readonly signature: string;
}

const EXAMPLES: readonly Example[] = [
  {
    path: '/test.txt',
    headers: { range: 'bytes=0-9' },
    names: 'host;range;x-amz-content-sha256;x-amz-date',
    signature: 'f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41',
  },
  {
    method: 'PUT',
    path: `/${encodePath('test$file.text')}`,
    headers: { date: 'Fri, 24 May 2013 00:00:00 GMT', 'x-amz-storage-class': 'REDUCED_REDUNDANCY' },
    body: 'Welcome to Amazon S3.',
    names: 'date;host;x-amz-content-sha256;x-amz-date;x-amz-storage-class',
    signature: '98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd',
  },
  {
    path: '/?lifecycle',
    names: 'host;x-amz-content-sha256;x-amz-date',
    signature: 'fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543',
  },
  {
    path: '/?max-keys=2&prefix=J',
    names: 'host;x-amz-content-sha256;x-amz-date',
    signature: '34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7',
  },
];

test('signatures are those of the examples of S3', () => {
  for (const { method = 'GET', path, headers = {}, body = '', names, signature } of EXAMPLES) {
    const payloadHash = sha256Hex(body);
    const url = new URL(`https://examplebucket.s3.amazonaws.com${path}`);
    const all = { ...headers, 'x-amz-content-sha256': payloadHash };
    const signed = signV4({ method, url, headers: all, payloadHash }, S3, SCOPE);
    assert.equal(
      signed.authorization,
      `AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request, SignedHeaders=${names}, Signature=${signature}`,
    );
    assert.equal(signed['x-amz-date'], '20130524T000000Z');
  }
});

test('signatures are those of the test suite: names and values in order', () => {
  const credentials = {
    accessKeyId: 'AKIDEXAMPLE',
    secretAccessKey: 'wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY',
    sessionToken: '',
  };
  const scope = { region: 'us-east-1', service: 'service', at: new Date('2015-08-30T12:36:00Z') };
  const of = (query: string): string =>
    signV4(
      {
        method: 'GET',
        url: new URL(`https://example.amazonaws.com/${query}`),
        headers: {},
        payloadHash: EMPTY,
      },
      credentials,
      scope,
    ).authorization!.split('Signature=')[1]!;
  assert.equal(of(''), '5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31');
  assert.equal(
    of('?Param2=value2&Param1=value1'),
    'b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500',
  );
  assert.equal(
    of('?Param1=value2&Param1=Value1'),
    'eedbc4e291e521cf13422ffca22be7d2eb8146eecf653089df300a15b2382bd1',
  );
});

test('the token of a session is sent and signed', () => {
  const url = new URL('https://b.s3.amazonaws.com/k');
  const request = { method: 'GET', url, headers: {}, payloadHash: EMPTY };
  const signed = signV4(request, { ...S3, sessionToken: 'TOKEN' }, SCOPE);
  assert.equal(signed['x-amz-security-token'], 'TOKEN');
  assert.match(signed.authorization!, /SignedHeaders=host;x-amz-date;x-amz-security-token,/);
  assert.doesNotMatch(signed.authorization!, /TOKEN/);
});

test('paths are encoded once, slashes kept', () => {
  assert.equal(encodePath("a b/sha256:ff/(x)*!'~"), 'a%20b/sha256%3Aff/%28x%29%2A%21%27~');
});
