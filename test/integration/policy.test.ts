// A client says which sources its build may use.
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { after, before, test } from 'node:test';
import { connect } from '../../src/client/client.ts';
import { ControlDefinition, SolveRequest } from '../../src/pb/control.ts';
import { Op } from '../../src/pb/ops.ts';
import { CheckPolicyResponse, PolicyVerifierDefinition } from '../../src/pb/policysession.ts';
import { PolicyAction } from '../../src/pb/sourcepolicy.ts';
import { service } from '../../src/rpc/server.ts';
import { SessionHost } from '../../src/session/host/host.ts';
import { Daemon, digest } from './harness.ts';

let daemon: Daemon;
let server: Server;
let base: string;
const served: string[] = [];

before(async () => {
  server = createServer((request, response) => {
    served.push(request.url ?? '');
    response.end(request.url);
  });
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
  base = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  daemon = await Daemon.start();
});

after(async () => {
  await daemon?.[Symbol.asyncDispose]();
  server?.close();
});

type Decide = (identifier: string) => Parameters<typeof CheckPolicyResponse.fromPartial>[0];

/** Solves one source below the policy. @returns the identifiers that the policy was asked about */
async function solve(
  path: string,
  decide: Decide,
  told: (digest: string) => void = () => {},
): Promise<string[]> {
  const asked: string[] = [];
  const policy = service(PolicyVerifierDefinition, {
    checkPolicy: async (request) => {
      const identifier = request.Source?.Source?.identifier ?? '';
      asked.push(request.Source?.HTTP ? `${identifier} known` : identifier);
      told(request.Source?.HTTP?.ChecksumResponse?.Digest ?? '');
      return CheckPolicyResponse.fromPartial(decide(asked.at(-1) ?? ''));
    },
  });
  using client = connect(daemon.address);
  const host = new SessionHost({ services: [policy] });
  const end = new AbortController();
  const session = host.run(await client.channel(), end.signal);
  session.catch(() => {});
  const source = Op.encode(
    Op.fromPartial({ op: { $case: 'source', value: { identifier: base + path, attrs: {} } } }),
  ).finish();
  const last = Op.encode(Op.fromPartial({ inputs: [{ digest: digest(source), index: 0n }] })).finish();
  try {
    const control = await client.service(ControlDefinition);
    const request = {
      Ref: `policy${path.replaceAll('/', '-')}`,
      Session: host.id,
      SourcePolicySession: host.id,
      Definition: { def: [source, last], metadata: {}, Source: undefined },
    };
    await control.solve(SolveRequest.fromPartial(request), { signal: AbortSignal.timeout(20_000) });
    return asked;
  } finally {
    end.abort();
    await session.catch(() => {});
  }
}

const allow = { result: { $case: 'decision', value: { action: PolicyAction.ALLOW } } } as const;

test('a policy gets the checksum of a download with something behind it, as signatures are made', async () => {
  const sums: string[] = [];
  const ChecksumRequest = { Algo: 2, Suffix: Buffer.from('+') } as const;
  const look: Decide = (identifier) =>
    identifier.endsWith(' known')
      ? allow
      : {
          result: {
            $case: 'request',
            value: { Source: { identifier, attrs: {} }, HTTP: { ChecksumRequest } },
          },
        };
  await solve('/signed', look, (sum) => sums.push(sum));
  assert.deepEqual(sums, ['', `sha512:${createHash('sha512').update('/signed+').digest('hex')}`]);
});

test('a policy allows, looks at, converts and denies sources', async () => {
  assert.deepEqual(await solve('/plain', () => allow), [`${base}/plain`]);
  assert.ok(served.includes('/plain'));

  const look: Decide = (identifier) =>
    identifier.endsWith(' known')
      ? allow
      : { result: { $case: 'request', value: { Source: { identifier, attrs: {} } } } };
  assert.deepEqual(await solve('/looked', look), [`${base}/looked`, `${base}/looked known`]);

  const update = { identifier: `${base}/other`, attrs: {} };
  const convert: Decide = (identifier) =>
    identifier === update.identifier
      ? allow
      : { result: { $case: 'decision', value: { action: PolicyAction.CONVERT, update } } };
  assert.deepEqual(await solve('/converted', convert), [`${base}/converted`, update.identifier]);
  assert.ok(served.includes('/other') && !served.includes('/converted'));

  const deny: Decide = () => ({
    result: {
      $case: 'decision',
      value: { action: PolicyAction.DENY, denyMessages: [{ message: 'not signed' }] },
    },
  });
  await assert.rejects(solve('/denied', deny), (error: Error & { details: unknown }) => {
    assert.match(
      error.message,
      /^failed to load LLB: error evaluating the source policy: source ".*\/denied" not/,
    );
    assert.match(JSON.stringify(error.details), /DecisionResponse.*not signed/);
    return true;
  });
  assert.ok(!served.includes('/denied'));
});
