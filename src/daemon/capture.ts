import { Capture } from '../attest/capture.ts';
import { BuildError } from '../base/errors.ts';
import type { ImmutableRef } from '../cache/ref.ts';
import { type ExecOp, MountType, NetMode } from '../llb/ops.ts';
import type { VertexSpec } from '../llb/parse.ts';
import { ExecOpRunner } from '../ops/exec.ts';
import { SourceOpRunner } from '../ops/source.ts';
import type { SolvedStep } from '../solver/job.ts';
import { captureSource } from '../source/capture.ts';

/** What the steps behind a result have used (FEATURES E25). */
export function captureSteps(steps: readonly SolvedStep<VertexSpec, ImmutableRef>[]): Capture {
  const capture = new Capture();
  try {
    for (const step of steps) captureStep(capture, step);
  } catch (error) {
    throw BuildError.wrap(error, 'failed to capture provenance');
  }
  return capture;
}

function captureStep(capture: Capture, { vertex, op }: SolvedStep<VertexSpec, ImmutableRef>): void {
  const { platform, op: message } = vertex.spec;
  const kind = message.op;
  if (kind?.$case === 'exec') {
    captureExec(capture, kind.value);
    if (op instanceof ExecOpRunner && op.usage) capture.usage.set(vertex.digest, op.usage);
  } else if (kind?.$case === 'build') capture.incomplete = true;
  else if (kind?.$case === 'source') {
    const pin = op instanceof SourceOpRunner ? op.pin : undefined;
    if (pin === undefined) throw new BuildError(`${kind.value.identifier} has not been resolved`);
    captureSource(capture, kind.value, platform, pin);
  }
}

function captureExec(capture: Capture, { mounts, secretenv, network }: ExecOp): void {
  for (const { mountType, secretOpt, SSHOpt } of mounts) {
    const { ID: id = '', optional = false } = (mountType === MountType.SSH ? SSHOpt : secretOpt) ?? {};
    if (mountType === MountType.SECRET) capture.addSecret({ id, optional });
    if (mountType === MountType.SSH) capture.addSsh({ id, optional });
  }
  for (const { ID: id, optional } of secretenv) capture.addSecret({ id, optional });
  if (network !== NetMode.NONE) capture.networkAccess = true;
}
