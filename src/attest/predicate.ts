import { field, goAny, goJson, goJsonIndent, goMap, goStruct, omitEmpty, optional } from '../base/gojson.ts';
import type { ImageTime } from '../oci/time.ts';
import type { Capture, Grant } from './capture.ts';
import { type Material, materialsOf } from './materials.ts';
import type { ConfigSource, DigestSet, RequestParameters, RequestRecord } from './request.ts';

export const PROVENANCE_VERSIONS = ['v1', 'v0.2'] as const;
export type SlsaVersion = (typeof PROVENANCE_VERSIONS)[number];

export const PROVENANCE_PREFIX = 'https://slsa.dev/provenance/';
const BUILD_TYPE: Readonly<Record<SlsaVersion, string>> = {
  v1: 'https://github.com/moby/buildkit/blob/master/docs/attestations/slsa-definitions.md',
  'v0.2': 'https://mobyproject.org/buildkit@v1',
};
const EXTENSION = 'https://mobyproject.org/buildkit@v1';

export function provenanceType(version: SlsaVersion): string {
  return PROVENANCE_PREFIX + version;
}

/** The build of one result as far as it is known (FEATURES J36). */
export interface BuildFacts {
  readonly capture: Capture;
  /** What was asked; undefined for a graph that no frontend made. */
  readonly request: RequestRecord | undefined;
  /** The outermost request, when it is another one. */
  readonly root: RequestRecord | undefined;
}

/** What the predicate tells beside the facts. */
export interface PredicateDetails {
  readonly builderId: string;
  readonly builderPlatform: string;
  readonly dockerfileVersion: string;
  /** Of the daemon's configuration. */
  readonly environment: Readonly<Record<string, unknown>>;
  readonly reproducible: boolean;
  readonly invocationId: string;
  readonly started: ImageTime;
  readonly finished: ImageTime;
  readonly compatibilityVersion: number;
  /** JSON values of `mode=max`. */
  readonly full?: FullDetails;
  /** JSON value of what the machine did meanwhile. */
  readonly usage?: unknown;
}

export interface FullDetails {
  readonly buildConfig: unknown;
  readonly source: unknown;
  /** Descriptors of layers, by `stepN:OUTPUT`. */
  readonly layers: ReadonlyMap<string, unknown>;
}

/** `mode=min`: nothing that may hold what its user would rather keep (FEATURES J39). */
export function toldInMin(facts: BuildFacts): { readonly facts: BuildFacts; readonly complete: boolean } {
  let complete = true;
  const isTold = (key: string): boolean => !key.startsWith('build-arg:') && !key.startsWith('label:');
  const scrub = (record: RequestRecord): RequestRecord => {
    const { args, inputs } = record.request;
    const told = Object.entries(args).filter(([key]) => isTold(key));
    if (told.length < Object.keys(args).length) complete = false;
    const from = Object.entries(inputs).map(([name, input]) => [name, scrub(input)] as const);
    const request = { ...record.request, args: Object.fromEntries(told), inputs: Object.fromEntries(from) };
    return { ...record, request };
  };
  const request = facts.request && scrub(facts.request);
  const root = facts.root && scrub(facts.root);
  return { facts: { ...facts, request, root }, complete };
}

const VCS = 'vcs:';

/** Options that tell where the instructions are kept stand apart. */
function splitVcs(record: RequestRecord | undefined): {
  readonly request: RequestRecord | undefined;
  readonly vcs: Readonly<Record<string, string>>;
} {
  if (!record) return { request: undefined, vcs: {} };
  const args = Object.entries(record.request.args);
  const vcs = args.flatMap(([key, value]) => {
    if (!key.startsWith(VCS) || value === '') return [];
    return [[key.slice(VCS.length), value] as const];
  });
  const rest = Object.fromEntries(args.filter(([key]) => !key.startsWith(VCS)));
  return {
    request: { ...record, request: { ...record.request, args: rest } },
    vcs: Object.fromEntries(vcs),
  };
}

/** Whether the materials name everything that went into the result. */
export function hasAllMaterials({ capture }: BuildFacts): boolean {
  return !capture.incomplete && capture.locals.length === 0;
}

/** The predicate, indented. @throws BuildError for an image whose name is none */
export function encodePredicate(
  version: SlsaVersion,
  all: BuildFacts,
  mode: 'min' | 'max',
  details: PredicateDetails,
): string {
  const told = mode === 'min' ? toldInMin(all) : { facts: all, complete: true };
  const { request, vcs } = splitVcs(told.facts.request);
  const facts = { ...told.facts, request };
  const grants = mode === 'max';
  const parts: Parts = {
    facts,
    details,
    materials: materialsOf(facts.capture).map(materialJson),
    parameters: parametersJson(facts, grants, details.compatibilityVersion),
    extension: extensionJson(vcs, details),
    complete: told.complete && (all.request?.request.frontend ?? '') !== '',
    allMaterials: hasAllMaterials(all),
  };
  const hermetic = parts.allMaterials && !all.capture.networkAccess;
  return goJsonIndent(version === 'v1' ? slsa1(parts, hermetic) : slsa02(parts, hermetic), '  ');
}

interface Parts {
  readonly facts: BuildFacts;
  readonly details: PredicateDetails;
  readonly materials: readonly unknown[];
  readonly parameters: unknown;
  readonly extension: unknown;
  readonly complete: boolean;
  readonly allMaterials: boolean;
}

function slsa1(parts: Parts, hermetic: boolean): unknown {
  const { facts, details, materials, parameters, extension } = parts;
  return {
    buildDefinition: {
      buildType: BUILD_TYPE.v1,
      resolvedDependencies: omitEmpty(materials),
      externalParameters: {
        configSource: configSourceJson('path')(facts.request?.configSource ?? {}),
        request: parameters,
      },
      internalParameters: untyped({
        ...(details.full ? { buildConfig: details.full.buildConfig } : {}),
        ...environment('builderPlatform', facts, details),
      }),
    },
    runDetails: {
      builder: { id: details.builderId },
      metadata: {
        invocationId: omitEmpty(details.invocationId),
        startedOn: details.started.text,
        finishedOn: details.finished.text,
        buildkit_metadata: extension,
        buildkit_hermetic: omitEmpty(hermetic),
        buildkit_completeness: { request: parts.complete, resolvedDependencies: parts.allMaterials },
        buildkit_reproducible: omitEmpty(details.reproducible),
      },
    },
  };
}

function slsa02(parts: Parts, hermetic: boolean): unknown {
  const { facts, details, materials, parameters, extension } = parts;
  return {
    builder: { id: details.builderId },
    buildType: BUILD_TYPE['v0.2'],
    materials: omitEmpty(materials),
    invocation: {
      configSource: configSourceJson('entryPoint')(facts.request?.configSource ?? {}),
      parameters,
      environment: untyped(environment('platform', facts, details)),
    },
    buildConfig: details.full?.buildConfig,
    metadata: {
      buildInvocationID: omitEmpty(details.invocationId),
      buildStartedOn: details.started.text,
      buildFinishedOn: details.finished.text,
      completeness: { parameters: parts.complete, environment: true, materials: parts.allMaterials },
      reproducible: details.reproducible,
      [`${EXTENSION}#metadata`]: extension,
      [`${EXTENSION}#hermetic`]: omitEmpty(hermetic),
    },
  };
}

function environment(platformKey: string, facts: BuildFacts, details: PredicateDetails): object {
  const isDockerfile = facts.request?.request.frontend === 'dockerfile.v0';
  return {
    [platformKey]: details.builderPlatform,
    ...(isDockerfile ? { dockerfileVersion: details.dockerfileVersion } : {}),
    ...details.environment,
  };
}

/** The value as Go writes what it has decoded without knowing its type: keys sorted, numbers floating. */
function untyped(value: object): unknown {
  return goAny(JSON.parse(goJson(value)));
}

function extensionJson(vcs: Readonly<Record<string, string>>, { full, usage }: PredicateDetails): unknown {
  return {
    vcs: omitEmpty(goMap(vcs)),
    source: full?.source,
    layers: full && omitEmpty(full.layers),
    sysUsage: omitEmpty(usage),
  };
}

function configSourceJson(pathKey: string) {
  return goStruct<ConfigSource>(
    optional('uri', (c) => c.uri),
    optional('digest', (c) => digestJson(c.digest)),
    optional(pathKey, (c) => c.path),
  );
}

function digestJson(digest: DigestSet | undefined): unknown {
  return digest && goMap(digest);
}

const materialJson = goStruct<Material>(
  optional('uri', (m) => m.uri),
  optional('digest', (m) => digestJson(m.digest)),
);

const grantJson = goStruct<Grant>(
  field('id', (g) => g.id),
  optional('optional', (g) => g.optional),
);

function parametersJson(facts: BuildFacts, grants: boolean, compatibilityVersion: number): unknown {
  const { capture, request, root } = facts;
  return {
    ...requestFields(request?.request, {
      secrets: omitEmpty(grants ? capture.secrets.map(grantJson) : []),
      ssh: omitEmpty(grants ? capture.ssh.map(grantJson) : []),
      locals: omitEmpty(capture.locals.map((name) => ({ name }))),
    }),
    root: root && recordJson(root),
    compatibilityVersion: omitEmpty(compatibilityVersion),
  };
}

function requestFields(request: RequestParameters | undefined, captured: object): Record<string, unknown> {
  const inputs = Object.entries(request?.inputs ?? {}).map(([name, one]) => [name, recordJson(one)]);
  return {
    frontend: omitEmpty(request?.frontend),
    args: omitEmpty(goMap(request?.args ?? {})),
    ...captured,
    inputs: omitEmpty(goMap(Object.fromEntries(inputs))),
  };
}

function recordJson(record: RequestRecord): unknown {
  return {
    configSource: configSourceJson('path')(record.configSource),
    request: requestFields(record.request, {}),
  };
}
