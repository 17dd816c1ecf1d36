import assert from 'node:assert/strict';
import { test } from 'node:test';
import { BuildError } from '../base/errors.ts';
import { Op } from '../llb/ops.ts';
import { CheckPolicyResponse } from '../pb/policysession.ts';
import type { CheckPolicyRequest } from '../pb/policysession.ts';
import { PolicyAction } from '../pb/sourcepolicy.ts';
import { SourcePolicy } from './source-policy.ts';

type Answer = Parameters<typeof CheckPolicyResponse.fromPartial>[0];
const forever = new AbortController().signal;

function policy(answers: readonly Answer[]) {
  const asked: CheckPolicyRequest[] = [];
  const resolved: string[] = [];
  const subject = new SourcePolicy({
    verifier: async () => async (request) => {
      asked.push(structuredClone(request));
      const answer = answers[Math.min(asked.length, answers.length) - 1];
      return CheckPolicyResponse.fromPartial(answer ?? {});
    },
    resolve: async (request) => {
      resolved.push(request.Source?.identifier ?? '');
      if (request.Source?.identifier.includes('gone')) throw new BuildError('not found');
      const image = { Digest: 'sha256:aa', Config: new Uint8Array(), AttestationChain: undefined };
      return { Source: request.Source, Image: image, Git: undefined, HTTP: undefined };
    },
  });
  return { subject, asked, resolved };
}

function source(identifier: string, attrs: Record<string, string> = {}): Op {
  const platform = { OS: 'linux', Architecture: 'arm64' };
  return Op.fromPartial({ platform, op: { $case: 'source', value: { identifier, attrs } } });
}

function identifierOf(op: Op): string | undefined {
  return op.op?.$case === 'source' ? op.op.value.identifier : undefined;
}

const decision = (action: PolicyAction, more: object = {}): Answer => ({
  result: { $case: 'decision', value: { action, ...more } },
});
const ALLOW = decision(PolicyAction.ALLOW);
const wants = (identifier: string, attrs: Record<string, string> = {}): Answer => ({
  result: { $case: 'request', value: { Source: { identifier, attrs } } },
});

test('a source that is allowed stays; images are asked about by their full name', async () => {
  const { subject, asked } = policy([ALLOW]);
  const web = source('https://example.com/x');
  assert.equal(await subject.apply(web, forever), false);
  assert.equal(await subject.apply(source('docker-image://docker.io/library/x:latest'), forever), false);
  const short = source('docker-image://x');
  assert.equal(await subject.apply(short, forever), true);
  assert.equal(identifierOf(short), 'docker-image://docker.io/library/x:latest');
  assert.equal(asked[0]?.Platform?.Architecture, 'arm64');
  assert.deepEqual(
    asked.map(({ Source }) => Source?.Source?.identifier),
    ['https://example.com/x', identifierOf(short), identifierOf(short)],
  );
  assert.equal(await subject.apply(Op.fromPartial({}), forever), false, 'steps are no sources');
  assert.equal(asked.length, 3);
});

test('what the policy wants to know is looked up, of this source only', async () => {
  const id = 'https://example.com/x';
  const { subject, asked, resolved } = policy([wants(id), ALLOW]);
  await subject.apply(source(id), forever);
  assert.deepEqual(resolved, [id]);
  assert.equal(asked[1]?.Source?.Image?.Digest, 'sha256:aa');
  await assert.rejects(policy([wants('https://example.com/y')]).subject.apply(source(id), forever), {
    message:
      'policy requested different source identifier: "https://example.com/y" != "https://example.com/x"',
  });
  await assert.rejects(
    policy([wants(id, { a: 'b' })]).subject.apply(source(id), forever),
    /policy requested different source attrs/,
  );
  const gone = 'https://example.com/gone';
  await assert.rejects(
    policy([wants(gone)]).subject.apply(source(gone), forever),
    /^BuildError: error resolving source metadata from policy request: not found$/,
  );
});

test('a source is converted, and the new one is asked about', async () => {
  const update = { identifier: 'docker-image://y', attrs: { k: 'v' } };
  const { subject, asked } = policy([decision(PolicyAction.CONVERT, { update }), ALLOW]);
  const op = source('docker-image://x');
  assert.equal(await subject.apply(op, forever), true);
  assert.equal(identifierOf(op), 'docker-image://docker.io/library/y:latest');
  assert.deepEqual(asked[1]?.Source?.Source?.attrs, { k: 'v' });
});

test('a policy that never decides is not asked for ever', async () => {
  const id = 'https://example.com/x';
  const update = { identifier: id, attrs: {} };
  for (const answer of [wants(id), decision(PolicyAction.CONVERT, { update })]) {
    const { subject, asked } = policy([answer]);
    await assert.rejects(subject.apply(source(id), forever), /too many policy requests/);
    assert.equal(asked.length, 10);
  }
  await assert.rejects(policy([{}]).subject.apply(source(id), forever), /no decision in policy response/);
  await assert.rejects(
    policy([decision(PolicyAction.CONVERT)]).subject.apply(source(id), forever),
    /convert action requires updated source/,
  );
});

test('a denied source is an error with the reasons', async () => {
  const denyMessages = [{ message: 'not signed' }];
  const { subject } = policy([decision(PolicyAction.DENY, { denyMessages })]);
  await assert.rejects(subject.apply(source('https://example.com/x'), forever), {
    message: 'source "https://example.com/x" not allowed by policy: action DENY',
    details: [{ type: 'policysession.DecisionResponse', value: { action: 1, denyMessages } }],
  });
});
