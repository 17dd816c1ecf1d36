import { type Digest, digestOf } from '../base/digest.ts';
import { goJson } from '../base/gojson.ts';
import { buildJson, diffJson, mergeJson, passthroughJson } from '../llb/json.ts';
import type { BuildOp, DiffOp, MergeOp, PassthroughOp } from '../llb/ops.ts';

// Digests of steps that do nothing to the files of their inputs (FEATURES E8).

export function mergeDigest(op: MergeOp): Digest {
  return digestOf(goJson({ Type: 'buildkit.merge.v0', Merge: mergeJson(op) }));
}

export function diffDigest(op: DiffOp): Digest {
  return digestOf(goJson({ Type: 'buildkit.diff.v0', Diff: diffJson(op) }));
}

export function passthroughDigest(op: PassthroughOp): Digest {
  return digestOf(goJson({ Type: 'buildkit.passthrough.v0', Passthrough: passthroughJson(op) }));
}

export function buildDigest(op: BuildOp): Digest {
  return digestOf(goJson({ Type: 'buildkit.build.v0', Exec: buildJson(op) }));
}
