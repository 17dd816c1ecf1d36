import { SPDX_TYPE } from '../attest/attestation.ts';
import { toldPlatforms } from '../exporter/platforms.ts';
import type { SbomOptions } from '../frontend/attest-options.ts';
import type { Bridge, SolveRequest } from '../frontend/bridge.ts';
import { daemonBridge } from '../frontend/dockerfile-bridge.ts';
import type { FrontendResult, LazyRef } from '../frontend/result.ts';
import { openScanner, sbomAttestation } from '../frontend/sbom.ts';
import { fromDefinition } from '../llb/definition-state.ts';
import { hostPlatform } from '../oci/platform.ts';
import { resolveMode } from '../source/image-spec.ts';
import { keyOf } from './provenance.ts';

type Result = FrontendResult<LazyRef>;

/** The result with a scan of each tree, unless the frontend has brought one (FEATURES J40). */
export async function withSbom(
  result: Result,
  options: SbomOptions,
  bridge: Bridge,
  request: SolveRequest,
  signal: AbortSignal,
): Promise<Result> {
  const known = [...(result.attestations?.values() ?? [])].flat();
  if (known.some(({ predicateType }) => predicateType === SPDX_TYPE)) return result;
  const { frontendOpt } = request;
  const [platform = hostPlatform()] = bridge.workerPlatforms;
  const mode = resolveMode(frontendOpt['image-resolve-mode'] ?? '');
  const { resolveImage, solve } = daemonBridge(bridge, request, signal);
  const scanner = await openScanner(options, platform, (ref) =>
    resolveImage(ref, { platform, resolveMode: mode, logName: '' }),
  );
  const ignoreCache = frontendOpt['no-cache'] === '';
  const attestations = new Map(result.attestations);
  for (const { id } of toldPlatforms(result)) {
    const ref = result.refs ? result.refs.get(keyOf(result, id)) : result.ref;
    if (!ref?.definition) continue;
    const targets = { core: fromDefinition(ref.definition), extras: new Map(), ignoreCache };
    const scanned = await solve(scanner.scan(id, targets), []);
    if (scanned) attestations.set(id, [...(attestations.get(id) ?? []), sbomAttestation(scanned.value)]);
  }
  return { ...result, attestations };
}
