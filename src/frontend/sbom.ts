import { type Attestation, keyReason, keySbomCore, SPDX_TYPE } from '../attest/attestation.ts';
import { BuildError } from '../base/errors.ts';
import { parseImage } from '../dockerfile/convert/image.ts';
import type { ResolvedImage } from '../dockerfile/convert/options.ts';
import type { ScanTargets } from '../dockerfile/convert/scan.ts';
import { type MountOptions, run } from '../llb/exec.ts';
import { marshal } from '../llb/marshal.ts';
import type { Definition } from '../llb/ops.ts';
import { image } from '../llb/source.ts';
import { setDir, setEnv } from '../llb/state.ts';
import type { Platform } from '../oci/platform.ts';
import { joinPath } from '../match/paths.ts';
import type { SbomOptions } from './attest-options.ts';

const SOURCE = '/run/src';
const OUTPUT = '/run/out/';
/** Name of the document about the result itself. */
const CORE = 'sbom';

/** A program that lists what is in trees, in an image of its own (FEATURES J41). */
export interface Scanner {
  /** The graph whose tree holds the documents. @param name of the platform, shown to users */
  scan(name: string, targets: ScanTargets): Definition;
}

/** Looks the image of a scanner up. @throws BuildError for one that says not what to run */
export async function openScanner(
  { generator, params }: SbomOptions,
  platform: Platform,
  resolve: (ref: string) => Promise<ResolvedImage>,
): Promise<Scanner> {
  const { ref, config: bytes } = await resolve(generator);
  const { entrypoint, cmd, env, workingDir } = parseImage(bytes).config;
  const args = [...entrypoint, ...cmd];
  if (args.length === 0) throw new BuildError(`scanner ${ref} does not have cmd`);
  return {
    scan(name, { core, extras, ignoreCache }) {
      const variables = [...env.map(variable), ...scanVariables(params, extras.size > 0)];
      const settings = variables.reduce(
        (state, [key, value]) => setEnv(state, key, value),
        setDir(image(ref, { platform }), workingDir),
      );
      const mounts: MountOptions[] = [
        { dest: '/tmp', tmpfs: {} },
        { dest: joinPath(SOURCE, 'core', CORE), from: core, readonly: true },
        ...[...extras].map(([key, from]) => ({
          dest: joinPath(SOURCE, 'extras', `${CORE}-${key}`),
          from,
          readonly: true,
        })),
        { dest: OUTPUT },
      ];
      const constraints = { customName: `[${name}] generating sbom using ${ref}`, ignoreCache, platform };
      const scanned = run(settings, { args, mounts, constraints });
      return marshal(scanned.mount(OUTPUT), { platform });
    },
  };
}

/** Of `KEY=VALUE`. */
function variable(entry: string): [string, string] {
  const at = entry.indexOf('=');
  return at < 0 ? [entry, ''] : [entry.slice(0, at), entry.slice(at + 1)];
}

function scanVariables(params: SbomOptions['params'], extras: boolean): [string, string][] {
  return [
    ['BUILDKIT_SCAN_DESTINATION', OUTPUT],
    ['BUILDKIT_SCAN_SOURCE', joinPath(SOURCE, 'core', CORE)],
    ...(extras ? [['BUILDKIT_SCAN_SOURCE_EXTRAS', joinPath(SOURCE, 'extras')] as [string, string]] : []),
    ...Object.entries(params)
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([key, value]): [string, string] => [`BUILDKIT_SCAN_${key}`, value]),
  ];
}

/** The documents in the tree of `ref`, as what is said of a result. */
export function sbomAttestation<R>(ref: R): Attestation<R> {
  return {
    kind: 'bundle',
    metadata: new Map([
      [keyReason, Buffer.from('sbom')],
      [keySbomCore, Buffer.from(CORE)],
    ]),
    ref,
    path: '',
    predicateType: SPDX_TYPE,
    subjects: [],
  };
}
