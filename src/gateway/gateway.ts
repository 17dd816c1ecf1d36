import { BuildError } from '../base/errors.ts';
import { encodeDefinition } from '../llb/encode.ts';
import { LLBBridgeDefinition, type SolveRequest } from '../pb/gateway.ts';
import type { Definition as DefinitionMessage } from '../pb/ops.ts';
import type { GrpcChannel } from '../rpc/client.ts';
import type { Metadata } from '../rpc/metadata.ts';
import { statusOf } from '../rpc/status.ts';
import type { CallOptions } from '../rpc/types.ts';
import { type Caps, gatewayCaps, llbCaps } from './caps.ts';
import { type ReferenceCalls, RemoteReference } from './reference.ts';
import type { Container, ContainerOptions } from './container-types.ts';
import { definitionMessage } from './definition.ts';
import { resultFromWire, resultToWire } from './result-wire.ts';
import { platformMessage, resolveSource } from './sources.ts';
import type {
  Frontend,
  FrontendResult,
  GatewayCallOptions,
  GatewayClient,
  GatewaySolveRequest,
  Reference,
  ResolvedImage,
  ResolvedSource,
  ResolveImageOptions,
  ResolveSourceOptions,
  SolvedResult,
  SourceIdentifier,
  WarnOptions,
} from './types.ts';
import type { WorkerInfo } from './worker-types.ts';
import { workerFromWire } from './worker-wire.ts';

const PING_TIMEOUT_MS = 15_000;
/** Options that a frontend's own requests inherit: the client put them among its options for that. */
const INHERITED = ['cache-imports', 'cache-from'];
const IMAGE = 'docker-image://';
/** JSON, which daemons that know no `return` read. */
const EMPTY_ATTRS = new TextEncoder().encode('{}');

/** A build that waits for a frontend at the other end of `channel`. */
export interface GatewayHost {
  readonly channel: GrpcChannel;
  /** By which the daemon knows the build, where the connection does not say. */
  readonly metadata?: Metadata;
  readonly options: Readonly<Record<string, string>>;
  readonly sessionId: string;
  readonly product: string;
  readonly signal: AbortSignal;
}

/**
 * Runs `frontend` for a build and hands its result, or its error, to the daemon (FEATURES B9 c, B45, N13, N14).
 * @returns what the frontend gave
 * @throws what the frontend threw, or BuildError of the daemon
 */
export async function runFrontendFor(
  host: GatewayHost,
  frontend: Frontend,
): Promise<Awaited<ReturnType<Frontend>>> {
  const gateway = await Gateway.open(host);
  let result: Awaited<ReturnType<Frontend>>;
  let finish: () => Promise<void>;
  try {
    result = await frontend(gateway);
    finish = gateway.finisher(result ?? {});
  } catch (error) {
    // The build ends with this error, so that whoever asked for the build gets it.
    await gateway.fail(error).catch(() => {});
    throw error;
  }
  await finish();
  return result;
}

class Gateway implements GatewayClient {
  readonly options: Readonly<Record<string, string>>;
  readonly sessionId: string;
  readonly product: string;
  readonly signal: AbortSignal;
  readonly workers: readonly WorkerInfo[];
  readonly #calls: ReferenceCalls;
  readonly #llb: Caps;
  /** What trees came from, by id, for daemons that know no `return`. */
  readonly #requests = new Map<string, SolveRequest>();

  static async open(host: GatewayHost): Promise<Gateway> {
    const bridge = host.channel.client(LLBBridgeDefinition);
    const metadata = host.metadata && { metadata: host.metadata };
    const pong = await bridge.ping({}, { ...metadata, signal: host.signal, timeoutMs: PING_TIMEOUT_MS });
    const caps = gatewayCaps(pong.FrontendAPICaps);
    // A build that its client drives ends with nothing else.
    if (host.metadata) caps.need('return');
    const callOptions = ({ signal }: GatewayCallOptions): CallOptions => ({
      ...metadata,
      signal: signal ? AbortSignal.any([host.signal, signal]) : host.signal,
    });
    const workers = pong.Workers.map(workerFromWire);
    return new Gateway(host, { bridge, caps, callOptions }, llbCaps(pong.LLBCaps), workers);
  }

  private constructor(host: GatewayHost, calls: ReferenceCalls, llb: Caps, workers: readonly WorkerInfo[]) {
    this.options = host.options;
    this.sessionId = host.sessionId;
    this.product = host.product;
    this.signal = host.signal;
    this.workers = workers;
    this.#calls = calls;
    this.#llb = llb;
  }

  get capabilities(): ReadonlySet<string> {
    return this.#calls.caps.names;
  }

  get llbCapabilities(): ReadonlySet<string> {
    return this.#llb.names;
  }

  async solve(request: GatewaySolveRequest): Promise<SolvedResult> {
    const { bridge, caps, callOptions } = this.#calls;
    const message = this.#solveMessage(request);
    const response = await bridge.solve(message, callOptions(request));
    const result = resultFromWire(response, ({ id, def }) => this.#reference(id, def));
    if (!caps.has('return')) for (const { id } of referencesOf(result)) this.#requests.set(id, message);
    if (request.evaluate && !caps.has('gateway.solve.evaluate'))
      await Promise.all(referencesOf(result).map((ref) => ref.evaluate(request)));
    return result;
  }

  #solveMessage(request: GatewaySolveRequest): SolveRequest {
    const definition = request.definition && definitionMessage(request.definition);
    for (const metadata of Object.values(definition?.metadata ?? {}))
      for (const cap of Object.keys(metadata.caps)) this.#llb.need(cap);
    const inherited = INHERITED.filter((name) => this.options[name] !== undefined);
    return {
      Definition: definition,
      Frontend: request.frontend ?? '',
      FrontendOpt: {
        ...Object.fromEntries(inherited.map((name) => [name, this.options[name]!])),
        ...request.frontendOptions,
      },
      allowResultReturn: true,
      allowResultArrayRef: true,
      Final: false,
      ExporterAttr: this.#calls.caps.has('return') ? new Uint8Array() : EMPTY_ATTRS,
      CacheImports: (request.cacheImports ?? []).map(({ type, attrs }) => ({
        Type: type,
        Attrs: { ...attrs },
      })),
      FrontendInputs: Object.fromEntries(
        Object.entries(request.frontendInputs ?? {}).map(([name, bytes]) => [name, definitionMessage(bytes)]),
      ),
      Evaluate: (request.evaluate ?? false) && this.#calls.caps.has('gateway.solve.evaluate'),
      SourcePolicies: [],
    };
  }

  #reference(id: string, def: DefinitionMessage | undefined): Reference | undefined {
    if (id === '') return undefined;
    return new RemoteReference(this.#calls, id, def && encodeDefinition(def));
  }

  async resolveImage(reference: string, options: ResolveImageOptions = {}): Promise<ResolvedImage> {
    const { bridge, caps, callOptions } = this.#calls;
    if (caps.has('source.metaresolver')) {
      const { source, image } = await this.resolveSource({ identifier: `${IMAGE}${reference}` }, options);
      if (!image) throw new BuildError(`failed to resolve ${reference}: the daemon says nothing of an image`);
      return { reference: source.identifier.slice(IMAGE.length), ...image };
    }
    const response = await bridge.resolveImageConfig(
      {
        Ref: reference,
        Platform: platformMessage(options.platform),
        ResolveMode: options.resolveMode ?? 'default',
        LogName: options.logName ?? '',
        ResolverType: 0,
        SessionID: '',
        StoreID: '',
        SourcePolicies: [],
      },
      callOptions(options),
    );
    return {
      reference: response.Ref === '' ? reference : response.Ref,
      digest: response.Digest,
      config: response.Config,
    };
  }

  async resolveSource(source: SourceIdentifier, options: ResolveSourceOptions = {}): Promise<ResolvedSource> {
    return await resolveSource(this.#calls, source, options);
  }

  async inputs(options: GatewayCallOptions = {}): Promise<Readonly<Record<string, Uint8Array>>> {
    const { bridge, caps, callOptions } = this.#calls;
    caps.need('frontend.inputs');
    const { Definitions } = await bridge.inputs({}, callOptions(options));
    return Object.fromEntries(
      Object.entries(Definitions).map(([name, def]) => [name, encodeDefinition(def)]),
    );
  }

  async newContainer(options: ContainerOptions): Promise<Container> {
    const { openContainer } = await import('./container.ts');
    return await openContainer(this.#calls, options, (ref) => this.#refMessage(ref).id);
  }

  async warn(vertex: string, message: string, options: WarnOptions = {}): Promise<void> {
    const { bridge, caps, callOptions } = this.#calls;
    caps.need('gateway.warnings');
    const { level = 1, detail = [], url = '', source, ranges = [] } = options;
    const encoder = new TextEncoder();
    await bridge.warn(
      {
        digest: vertex,
        level: BigInt(level),
        short: encoder.encode(message),
        detail: detail.map((line) => encoder.encode(line)),
        url,
        info: source && {
          filename: source.filename,
          data: encoder.encode(source.text),
          definition: undefined,
          language: source.language ?? '',
        },
        ranges: ranges.map(({ start, end }) => ({ start: { ...start }, end: { ...end } })),
      },
      callOptions(options),
    );
  }

  /** What hands `result` to the daemon: `return`, or a last solve for daemons that do not know it (FEATURES N14). */
  finisher(result: FrontendResult): () => Promise<void> {
    const { bridge, caps, callOptions } = this.#calls;
    const message = resultToWire(result, caps, (ref) => this.#refMessage(ref));
    if (caps.has('return'))
      return async () => void (await bridge.return({ result: message, error: undefined }, callOptions({})));
    const ref = result.refs ? Object.values(result.refs)[0] : result.ref;
    const request = (ref && this.#requests.get(ref.id)) ?? this.#solveMessage({});
    const attrs = Object.entries(message.metadata).map(([key, bytes]) => [
      key,
      Buffer.from(bytes).toString('base64'),
    ]);
    const json = JSON.stringify(Object.fromEntries(attrs));
    const last = { ...request, Final: true, ExporterAttr: new TextEncoder().encode(json) };
    return async () => void (await bridge.solve(last, callOptions({})));
  }

  /** @throws BuildError for a reference of another build */
  #refMessage(ref: Reference | undefined): { id: string; def: DefinitionMessage | undefined } {
    if (ref === undefined) return { id: '', def: undefined };
    if (!(ref instanceof RemoteReference) || !ref.belongsTo(this.#calls))
      throw new BuildError('a frontend has used a reference that is none of its build');
    return { id: ref.id, def: ref.definition && definitionMessage(ref.definition) };
  }

  /** Daemons that know no `return` learn of an error by the end of the program. */
  async fail(error: unknown): Promise<void> {
    const { bridge, caps, callOptions } = this.#calls;
    if (caps.has('return'))
      await bridge.return({ result: undefined, error: statusOf(error) }, callOptions({}));
  }
}

function referencesOf({ ref, refs }: SolvedResult): Reference[] {
  return (refs ? Object.values(refs) : [ref]).filter((one) => one !== undefined);
}
