import { BuildError } from '../base/errors.ts';
import type { ExecOp, FileOp, Op, PassthroughOp } from './ops.ts';

/** Refuses an op that no worker could run (FEATURES D22). */
export function validateOp(op: Op): void {
  const body = op.op;
  if (!body) fail('invalid nil op');
  if (body.$case === 'exec') validateExec(body.value, op.inputs.length);
  if (body.$case === 'file') validateFile(body.value);
  if (body.$case === 'passthrough') validatePassthrough(body.value, op.inputs.length);
  if (body.$case === 'diff' && !(body.value.lower && body.value.upper)) {
    fail('invalid diff op with nil lower or upper input');
  }
}

function validateExec(exec: ExecOp, inputs: number): void {
  if (!exec.meta) fail('invalid exec op with no meta');
  if (exec.meta.args.length === 0) fail('invalid exec op with no args');
  if (exec.mounts.length === 0) fail('invalid exec op with no mounts');
  if (!exec.mounts.some((mount) => mount.dest === '/')) fail('invalid exec op with no rootfs');
  for (const mount of exec.mounts) {
    if (mount.input < -1n || mount.input >= BigInt(inputs)) {
      fail(`invalid mount input index ${mount.input} with ${inputs} inputs`);
    }
  }
  if (exec.security !== 0 && exec.security !== 1) fail(`invalid security mode ${exec.security}`);
  if (exec.network < 0 || exec.network > 2) fail(`unknown network mode ${exec.network}`);
}

function validateFile(file: FileOp): void {
  if (file.actions.length === 0) fail('invalid file op with no actions');
}

function validatePassthrough(op: PassthroughOp, inputs: number): void {
  if (op.id === '') fail('invalid passthrough op with no id');
  if (op.outputs.length === 0) fail('invalid passthrough op with no outputs');
  for (const input of op.outputs) {
    if (input < 0n || input >= BigInt(inputs)) fail(`invalid passthrough output input index ${input}`);
  }
}

function fail(message: string): never {
  throw new BuildError(message);
}
