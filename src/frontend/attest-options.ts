import { PROVENANCE_VERSIONS, type SlsaVersion } from '../attest/predicate.ts';
import { BuildError } from '../base/errors.ts';
import { csvFields } from '../dockerfile/instructions/csv.ts';
import { normalizeReference } from '../oci/reference.ts';

/** What is to be said of a build (FEATURES B15). */
export interface AttestOptions {
  readonly sbom?: SbomOptions;
  readonly provenance?: ProvenanceOptions;
}

export interface SbomOptions {
  /** Image of the scanner, whole name. */
  readonly generator: string;
  /** For its environment. */
  readonly params: Readonly<Record<string, string>>;
}

export interface ProvenanceOptions {
  readonly version: SlsaVersion;
  readonly attrs: Readonly<Record<string, string>>;
}

const PREFIXES: readonly string[] = ['attest:', 'build-arg:BUILDKIT_ATTEST_'];
const GENERATOR = 'docker/buildkit-syft-scanner:stable-1';

/** @throws BuildError for a type of attestation or a value that makes no sense */
export function parseAttestOptions(options: Iterable<readonly [string, string]>): AttestOptions {
  const asked = new Map<string, Record<string, string>>();
  for (const [key, value] of options) {
    const prefix = PREFIXES.find((one) => key.startsWith(one));
    if (prefix === undefined) continue;
    const type = key.slice(prefix.length).toLowerCase();
    asked.set(type, attributes(type, value));
  }
  for (const type of asked.keys())
    if (type !== 'sbom' && type !== 'provenance')
      throw new BuildError(`unknown attestation type ${JSON.stringify(type)}`);
  const sbom = asked.get('sbom');
  const provenance = asked.get('provenance');
  return {
    ...(sbom ? { sbom: sbomOptions(sbom) } : {}),
    ...(provenance ? { provenance: provenanceOptions(provenance) } : {}),
  };
}

function attributes(type: string, value: string): Record<string, string> {
  if (value === '') return {};
  let fields: string[];
  try {
    fields = csvFields(value);
  } catch (error) {
    throw BuildError.wrap(error, `failed to parse ${type}`);
  }
  return Object.fromEntries(
    fields.map((field) => {
      const at = field.indexOf('=');
      return at < 0 ? [field, ''] : [field.slice(0, at), field.slice(at + 1)];
    }),
  );
}

function sbomOptions({ generator = GENERATOR, ...params }: Record<string, string>): SbomOptions {
  if (generator === '') throw new BuildError('sbom generator cannot be empty');
  try {
    return { generator: normalizeReference(generator), params };
  } catch (error) {
    throw BuildError.wrap(error, `failed to parse sbom generator ${generator}`);
  }
}

function provenanceOptions({ version = 'v1', ...attrs }: Record<string, string>): ProvenanceOptions {
  if (version === '') throw new BuildError('provenance SLSA version cannot be empty');
  const known = PROVENANCE_VERSIONS.find((one) => one === version);
  if (!known) throw new BuildError(`invalid provenance SLSA version: ${version}`);
  return { version: known, attrs };
}
