import { hostname } from 'node:os';
import { resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { digestOf } from '../base/digest.ts';
import { BuildError, invalidArgument, isCanceled } from '../base/errors.ts';
import { ControlDefinition, type SolveRequest as WireRequest } from '../pb/control.ts';
import { Definition, Op } from '../pb/ops.ts';
import { Metadata } from '../rpc/metadata.ts';
import type { RegisteredService } from '../rpc/server.ts';
import type { RemoteContent } from '../session/content.ts';
import { contentService } from '../session/host/content.ts';
import { contentDirectory } from '../session/host/content-directory.ts';
import { fileSyncService, type OfferedDirectory } from '../session/host/filesync.ts';
import { newSessionId, SessionHost } from '../session/host/host.ts';
import { policyService } from '../session/host/policy.ts';
import { secretsService } from '../session/host/secrets.ts';
import type { GatewaySolveRequest } from '../gateway/types.ts';
import { lendingServices } from './attachables.ts';
import { policyMessage } from './source-policy.ts';
import { prefixed } from './call-error.ts';
import { finishCaches, type PreparedCaches, prepareCaches } from './caches.ts';
import type { Client } from './client.ts';
import { definitionMessage } from '../gateway/definition.ts';
import { runGateway } from './gateway.ts';
import { lookInto } from './look-into.ts';
import { checkOutput, Outputs } from './outputs.ts';
import type { CacheEntry, SolveRequest, SolveResult } from './solve-types.ts';
import { Why } from './why.ts';
import { statusFromWire } from './wire.ts';

/** Progress that stays silent for this long after the build's end is over (FEATURES B26). */
const STATUS_SILENCE_MS = 5_000;
/** The same for a build that ended before it showed anything: mostly it never began. */
const STATUS_ABSENCE_MS = 500;
const FOLDERS = 'buildkitts-folders';
/** How long a failed gateway waits for the build to end with its error. */
const GATEWAY_GRACE_MS = 5_000;

/**
 * One build, as upstream's client runs it: a session, Control.Solve held open, the solve inside it
 * through the gateway, and the progress stream beside them (FEATURES N3, B9 c).
 */
export async function solve(client: Client, request: SolveRequest): Promise<SolveResult> {
  check(request);
  const caches = await prepareCaches(request);
  const ref = request.ref ?? newSessionId();
  const signal = request.signal ?? new AbortController().signal;
  const outputs = new Outputs(request, new Map([...layoutStores(request), ...caches.stores]));
  const host = new SessionHost({
    services: await sessionServices(request, outputs),
    ...(request.sharedKey === undefined ? {} : { sharedKey: request.sharedKey }),
  });
  const channel = await client.channel().catch((error: unknown) => {
    throw prefixed(error, 'failed to solve');
  });
  const sessionEnd = new AbortController();
  const statusEnd = new AbortController();
  const buildEnd = new AbortController();
  const session = host.run(channel, sessionEnd.signal).catch((error: unknown) => {
    buildEnd.abort(error); // without its session the build cannot go on
    throw error;
  });
  session.catch(() => {}); // told by the build
  const status = followStatus(client, ref, statusEnd, request);
  status.done.catch(() => {});
  const why = new Why(client, ref, request);
  let built = false;
  try {
    const result = await build(
      client,
      request,
      caches,
      ref,
      host.id,
      AbortSignal.any([signal, buildEnd.signal]),
    );
    built = true;
    await finishCaches(caches, result.exporterResponse, request.onWarning);
    await outputs.indexLayouts(result.exporterResponse);
    return { ref, ...result };
  } finally {
    await why.tell(built);
    status.finish();
    sessionEnd.abort();
    await session.catch(() => {});
    await status.done.catch((error: unknown) => {
      if (built) throw error; // else the build's own error says more
    });
  }
}

function check(request: SolveRequest): void {
  if (request.frontend && request.definition)
    throw invalidArgument(`invalid definition for frontend ${request.frontend}`);
  if (!request.frontend && !request.definition && !request.run)
    throw invalidArgument('invalid empty definition');
  for (const entry of request.exports ?? []) checkOutput(entry);
}

async function sessionServices(request: SolveRequest, outputs: Outputs): Promise<RegisteredService[]> {
  const services: RegisteredService[] = [];
  const dirs = offeredDirs(request);
  if (Object.keys(dirs).length > 0) services.push(fileSyncService(dirs));
  if (request.secrets?.length) services.push(await secretsService(request.secrets, process.env));
  services.push(...(await lendingServices(request)));
  services.push(...outputs.services());
  const { stores } = outputs;
  if (stores.size > 0 || request.chooseExports) services.push(contentService(stores));
  const { onSource } = request;
  if (onSource) services.push(policyService(onSource));
  return services;
}

/** Folders of images to build from, by the names that the daemon asks for. */
function layoutStores({ ociLayouts = {} }: SolveRequest): Map<string, RemoteContent> {
  return new Map(
    Object.entries(ociLayouts).map(([name, dir]) => [`oci:${name}`, contentDirectory(dir)] as const),
  );
}

/** All folders, or for a definition those that it reads. */
function offeredDirs(request: SolveRequest): Record<string, OfferedDirectory> {
  const dirs = request.localDirs ?? {};
  if (!request.definition) return { ...dirs };
  const offered: Record<string, OfferedDirectory> = {};
  for (const bytes of Definition.decode(request.definition).def) {
    const { op } = Op.decode(bytes);
    if (op?.$case !== 'source' || !op.value.identifier.startsWith('local://')) continue;
    const name = op.value.identifier.slice('local://'.length);
    const dir = dirs[name];
    if (dir === undefined) throw invalidArgument(`local directory ${name} not enabled`);
    offered[name] = dir;
  }
  return offered;
}

async function build(
  client: Client,
  request: SolveRequest,
  caches: PreparedCaches,
  ref: string,
  session: string,
  signal: AbortSignal,
): Promise<Omit<SolveResult, 'ref'>> {
  const control = await client.service(ControlDefinition);
  const gatewayFailed = new AbortController();
  const solveSignal = AbortSignal.any([signal, gatewayFailed.signal]);
  const solved = control.solve(wireRequest(request, caches, ref, session), {
    signal: solveSignal,
    metadata: Metadata.of({ [FOLDERS]: foldersName(request) }),
  });
  const over = new AbortController(); // a build that has failed needs no frontend any more
  solved.catch((error: unknown) => over.abort(error));
  const gateway = runGateway(client, {
    ref,
    session,
    product: request.product ?? '',
    options: { ...request.frontendAttrs, ...cacheAttrs(caches) },
    run: request.run ?? ((bridge) => bridge.solve(gatewayRequest(request, caches))),
    signal: AbortSignal.any([signal, over.signal]),
    ...(request.onFailedStep && { onFailure: lookInto(request) }),
  });
  gateway.catch(async () => {
    // The build ends with the same error; should it not, it is ended here.
    await Promise.race([solved.catch(() => {}), sleep(GATEWAY_GRACE_MS, undefined, { ref: false })]);
    gatewayFailed.abort();
  });
  try {
    const { ExporterResponse: exporterResponse } = await solved;
    return { exporterResponse, metadata: await gateway };
  } catch (error) {
    if (gatewayFailed.signal.aborted && !signal.aborted)
      await gateway.catch((inner: unknown) => {
        throw prefixed(inner, 'failed to run Build function');
      });
    const reason: unknown = signal.aborted ? signal.reason : undefined;
    throw prefixed(reason instanceof BuildError && isCanceled(error) ? reason : error, 'failed to solve');
  }
}

/** The whole build, asked of the frontend inside the daemon, or a graph. */
function gatewayRequest(request: SolveRequest, caches: PreparedCaches): GatewaySolveRequest {
  return {
    frontendOptions: { ...request.frontendAttrs, ...cacheAttrs(caches) },
    cacheImports: caches.imports,
    ...(request.definition && { definition: request.definition }),
    ...(request.frontend && { frontend: request.frontend }),
    ...(request.frontendInputs && { frontendInputs: request.frontendInputs }),
  };
}

/** Tells builds of different folders apart, where names of files and steps are the same. */
function foldersName({ localDirs = {} }: SolveRequest): string {
  const dirs = Object.entries(localDirs).map(([name, dir]) => [
    name,
    typeof dir === 'string' ? resolve(dir) : '',
  ]);
  return digestOf(JSON.stringify([hostname(), dirs.sort()]));
}

/** Frontends find the imports among their options. */
function cacheAttrs({ imports }: PreparedCaches): Record<string, string> {
  if (imports.length === 0) return {};
  return {
    'cache-imports': JSON.stringify(imports.map(({ type, attrs }) => ({ Type: type, Attrs: attrs }))),
  };
}

function wireRequest(
  request: SolveRequest,
  caches: PreparedCaches,
  ref: string,
  session: string,
): WireRequest {
  const entry = ({ type, attrs }: CacheEntry) => ({ Type: type, Attrs: { ...attrs } });
  const exporters = (request.exports ?? []).map(({ type, attrs }) => ({ Type: type, Attrs: { ...attrs } }));
  return {
    Ref: ref,
    Definition: undefined,
    ExporterDeprecated: exporters[0]?.Type ?? '',
    ExporterAttrsDeprecated: exporters[0]?.Attrs ?? {},
    Session: session,
    Frontend: '',
    FrontendAttrs: { ...request.frontendAttrs, ...cacheAttrs(caches) },
    Cache: {
      ExportRefDeprecated: '',
      ImportRefsDeprecated: [],
      ExportAttrsDeprecated: {},
      Exports: caches.exports.map(entry),
      Imports: caches.imports.map(entry),
    },
    Entitlements: [...(request.allowedEntitlements ?? [])],
    FrontendInputs: ownInputs(request),
    Internal: false,
    SourcePolicy: request.sourcePolicy && policyMessage(request.sourcePolicy),
    Exporters: exporters,
    EnableSessionExporter: Boolean(request.chooseExports ?? request.onExported),
    SourcePolicySession: request.onSource ? session : '',
    CompatibilityVersion: BigInt(request.compatibilityVersion ?? 0),
    ProxyNetwork: false,
  };
}

/** Those of a frontend of this process; any other gets them with the request that it is asked for. */
function ownInputs({ run, frontendInputs = {} }: SolveRequest): WireRequest['FrontendInputs'] {
  if (!run) return {};
  return Object.fromEntries(
    Object.entries(frontendInputs).map(([name, bytes]) => [name, definitionMessage(bytes)]),
  );
}

/** Passes the progress on until the daemon ends it, or falls silent after `finish`. */
function followStatus(
  client: Client,
  ref: string,
  end: AbortController,
  request: SolveRequest,
): { readonly done: Promise<void>; finish(): void } {
  let silence: NodeJS.Timeout | undefined;
  let seen = false;
  const read = async (): Promise<void> => {
    try {
      const control = await client.service(ControlDefinition);
      for await (const response of control.status({ Ref: ref }, { signal: end.signal })) {
        silence?.refresh();
        seen = true;
        request.onStatus?.(statusFromWire(response));
      }
    } catch (error) {
      if (!end.signal.aborted && !isCanceled(error)) throw prefixed(error, 'failed to receive status');
    } finally {
      clearTimeout(silence);
    }
  };
  let over = false;
  const done = read().finally(() => {
    over = true;
  });
  return {
    done,
    finish: () => {
      if (!over) silence = setTimeout(() => end.abort(), seen ? STATUS_SILENCE_MS : STATUS_ABSENCE_MS);
    },
  };
}
