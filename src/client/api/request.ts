import { invalidArgument } from '../../base/errors.ts';
import { definitionBytes } from '../../gateway/definition.ts';
import type { CacheOption, Frontend } from '../../gateway/types.ts';
import { memoryTree } from '../../session/fsutil/memory-source.ts';
import { type AuthConfig, type CredentialSource, NO_CREDENTIALS } from '../../session/host/docker-config.ts';
import type { OfferedDirectory } from '../../session/host/filesync.ts';
import { Uploads } from '../../session/host/upload.ts';
import { withActionsEnv } from '../actions-env.ts';
import { credentialsIn } from '../attachables.ts';
import type { CacheEntry, SecretSource, SolveRequest, SshSource } from '../solve-types.ts';
import { exportEntry } from './exports.ts';
import type {
  BuildOptions,
  LocalFiles,
  RegistryAuth,
  RegistryCredentials,
  Secret,
  SolveOptions,
  SshForward,
  Upload,
} from './types.ts';
import { decisionToWire, questionFromWire } from '../source-questions.ts';
import { localFolder } from './local-folder.ts';
import { uploadId } from './upload.ts';

/** What users ask for, as the client's own request. @throws BuildError for what cannot be */
export function solveRequest(
  options: SolveOptions & { readonly run?: Frontend },
): Omit<SolveRequest, 'onStatus' | 'onExplain' | 'signal'> {
  const { definition, frontend, frontendInputs, run } = options;
  return {
    ...(definition && { definition: definitionBytes(definition) }),
    ...(frontend && { frontend }),
    ...(frontendInputs && { frontendInputs: mapped(frontendInputs, definitionBytes) }),
    ...(run && { run }),
    ...(options.ref === undefined ? {} : { ref: options.ref }),
    ...(options.sharedKey === undefined ? {} : { sharedKey: options.sharedKey }),
    ...(options.frontendOptions && { frontendAttrs: options.frontendOptions }),
    ...(options.ociLayouts && { ociLayouts: options.ociLayouts }),
    ...(options.sourcePolicy && { sourcePolicy: options.sourcePolicy }),
    ...(options.compatibilityVersion === undefined
      ? {}
      : { compatibilityVersion: wholeNumber(options.compatibilityVersion) }),
    ...(options.entitlements && { allowedEntitlements: options.entitlements }),
    ...(options.onNotice && { onWarning: options.onNotice }),
    ...(options.onFailedStep && { onFailedStep: failedStepTo(options.onFailedStep) }),
    ...askedLater(options),
    ...services(options),
    exports: (options.exports ?? []).map(exportEntry),
    cacheExports: (options.cacheExports ?? []).map(cacheEntry),
    cacheImports: (options.cacheImports ?? []).map(cacheEntry),
  };
}

function cacheEntry({ type, attrs = {} }: CacheOption): CacheEntry {
  return withActionsEnv({ type, attrs }, process.env);
}

function wholeNumber(version: number): number {
  if (Number.isSafeInteger(version)) return version;
  throw invalidArgument(`compatibilityVersion ${version} is no whole number`);
}

/** What the daemon asks while it builds. */
function askedLater({ onSource, chooseExports, onExported }: BuildOptions): Partial<SolveRequest> {
  return {
    ...(onSource && {
      onSource: async (request, signal) =>
        decisionToWire(await onSource(questionFromWire(request, signal)), request),
    }),
    ...(chooseExports && {
      chooseExports: async (result) => (await chooseExports(result)).map(exportEntry),
    }),
    ...(onExported && { onExported: async (response) => onExported(response) }),
  };
}

function failedStepTo(
  tell: NonNullable<BuildOptions['onFailedStep']>,
): NonNullable<SolveRequest['onFailedStep']> {
  return ({ step: { error }, program, run }) =>
    tell({ error, program, run: (io, args) => run(io, args ?? [program]) });
}

function services(options: BuildOptions): Partial<SolveRequest> {
  return {
    ...(options.locals && { localDirs: mapped(options.locals, offered) }),
    ...(options.secrets && { secrets: Object.entries(options.secrets).map(secretSource) }),
    ...(options.ssh && { ssh: Object.entries(options.ssh).map(sshSource) }),
    ...(options.registryAuth && { credentials: credentials(options.registryAuth) }),
    ...(options.uploads && { uploads: uploadsOf(options.uploads) }),
  };
}

function offered(local: LocalFiles): OfferedDirectory {
  if (typeof local === 'string') return local;
  return 'files' in local ? memoryTree(local.files) : localFolder(local);
}

function secretSource([id, secret]: [string, Secret]): SecretSource {
  if (typeof secret === 'function') return { id, value: async () => bytes(await secret()) };
  if (typeof secret === 'string' || secret instanceof Uint8Array) return { id, value: bytes(secret) };
  if ('env' in secret) return { id, env: secret.env };
  return { id, file: secret.file };
}

function bytes(value: string | Uint8Array): Uint8Array {
  return typeof value === 'string' ? new TextEncoder().encode(value) : value;
}

function sshSource([id, forward]: [string, SshForward]): SshSource {
  if (forward === true) return { id, paths: [] };
  if ('agent' in forward) return { id, paths: [forward.agent] };
  if ('socket' in forward) return { id, paths: [forward.socket], raw: true };
  if (forward.keys.length === 0) throw invalidArgument(`ssh ${JSON.stringify(id)} has an empty list of keys`);
  const paths = forward.keys.filter((key) => typeof key === 'string');
  const keys = forward.keys.filter((key) => typeof key !== 'string');
  return { id, paths, keys };
}

function uploadsOf(all: readonly Upload[]): Uploads {
  const uploads = new Uploads();
  for (const one of all) {
    const id = uploadId(one);
    if (id === undefined) throw invalidArgument(`${one.url} is no upload: they are made by upload()`);
    uploads.add(one.stream, id);
  }
  return uploads;
}

function credentials(auth: RegistryAuth): CredentialSource {
  if (typeof auth === 'function') return { get: async (host) => authConfig(await auth(host)) };
  const { dockerConfig } = auth;
  if (typeof dockerConfig === 'string') return credentialsIn(dockerConfig);
  const byHost = auth as Readonly<Record<string, RegistryCredentials>>;
  return {
    get: async (host) =>
      authConfig(
        namesOf(host)
          .map((name) => byHost[name])
          .find(Boolean),
      ),
  };
}

/** Docker Hub has a name of its own for its registry. */
function namesOf(host: string): string[] {
  return host === 'registry-1.docker.io' ? [host, 'docker.io', 'index.docker.io'] : [host];
}

function authConfig(found: RegistryCredentials | undefined): AuthConfig {
  return { ...NO_CREDENTIALS, ...found };
}

function mapped<A, B>(all: Readonly<Record<string, A>>, change: (one: A) => B): Record<string, B> {
  return Object.fromEntries(Object.entries(all).map(([key, value]) => [key, change(value)]));
}
