import type { Metadata } from './metadata.ts';

/** Codec of one message type: what the generated code offers, or a hand-written one for a hot message. */
export interface MessageType<T> {
  encode(message: T): { finish(): Uint8Array };
  decode(bytes: Uint8Array): T;
  /** `decode` refuses every message that is not well formed; generated code does not. */
  readonly strict?: true;
  /**
   * Optional shortcut: the encoded message in pieces, the first in a fresh buffer with `headroom` free bytes in
   * front. Large payloads are pieces of their own instead of being copied, so they must not change any more.
   */
  encodeParts?(message: T, headroom: number): readonly [Uint8Array, ...Uint8Array[]];
}

/** One method of a service, as the generated `*Definition` objects have it. */
export interface MethodDefinition<In = unknown, Out = unknown> {
  readonly name: string;
  readonly requestType: MessageType<In>;
  readonly requestStream: boolean;
  readonly responseType: MessageType<Out>;
  readonly responseStream: boolean;
}

// biome-ignore lint/suspicious/noExplicitAny: variance-free bound for generated definitions
type AnyMethod = MethodDefinition<any, any>;

export interface ServiceDefinition {
  readonly fullName: string;
  readonly methods: Readonly<Record<string, AnyMethod>>;
}

export type RequestOf<M extends AnyMethod> = M extends { requestType: { decode(bytes: Uint8Array): infer T } }
  ? T
  : never;
export type ResponseOf<M extends AnyMethod> = M extends {
  responseType: { decode(bytes: Uint8Array): infer T };
}
  ? T
  : never;

/**
 * One call with messages both ways; the same shape on both sides.
 * Iterating it is calling `receive` until undefined. Only one reader at a time.
 */
export interface MessageStream<In, Out> extends AsyncIterable<In> {
  /**
   * Next message; undefined when the other side has said it is done (half close).
   * @throws BuildError with the call's status when the call failed or was cancelled.
   */
  receive(): Promise<In | undefined>;
  /** Sends one message. Resolves when there is room for more, not when the message has arrived. */
  send(message: Out): Promise<void>;
  /** Data of a BytesMessage may be given in pieces (`more`), which are then not copied. */
  readonly takesPieces?: boolean;
  /** Half close: no more messages from here. On a server, returning from the handler ends the call instead. */
  end(): void;
  /** Gives up the call: the other side sees a cancellation. */
  cancel(reason?: unknown): void;
  /** Aborted when the call is over for any reason but success. */
  readonly signal: AbortSignal;
}

/** What a handler knows of its call. */
export interface ServerCall {
  /** `/package.Service/Method` */
  readonly path: string;
  /** Request metadata in the order of the wire, repeated keys kept. */
  readonly metadata: Metadata;
  /** Aborted when the caller cancels, its deadline passes or the connection is lost. */
  readonly signal: AbortSignal;
  readonly peer: Peer;
  /** Adds response metadata; must come before the first message. */
  setHeader(key: string, value: string): void;
  /** Sends the response metadata now instead of with the first message. */
  sendHeaders(): void;
  setTrailer(key: string, value: string): void;
}

/** Where a connection comes from, for logs and access decisions. */
export interface Peer {
  readonly kind: 'unix' | 'tcp' | 'tls' | 'stream';
  readonly address: string;
}

export type Handler<M extends AnyMethod> = M['requestStream'] extends true
  ? M['responseStream'] extends true
    ? (stream: MessageStream<RequestOf<M>, ResponseOf<M>>, call: ServerCall) => Promise<void>
    : (requests: AsyncIterable<RequestOf<M>>, call: ServerCall) => Promise<ResponseOf<M>>
  : M['responseStream'] extends true
    ? (request: RequestOf<M>, call: ServerCall) => AsyncIterable<ResponseOf<M>>
    : (request: RequestOf<M>, call: ServerCall) => Promise<ResponseOf<M>>;

/** Handlers of a service; a method without one answers Unimplemented. */
export type ServiceHandlers<S extends ServiceDefinition> = {
  readonly [K in keyof S['methods']]?: Handler<S['methods'][K]>;
};

export interface CallOptions {
  /** Aborting it cancels the call at the other side too. */
  readonly signal?: AbortSignal;
  readonly metadata?: Metadata;
  /** Sent as grpc-timeout and kept here as well. */
  readonly timeoutMs?: number;
  /** Called once with the response metadata. */
  readonly onHeaders?: (metadata: Metadata) => void;
}

export type ClientMethod<M extends AnyMethod> = M['requestStream'] extends true
  ? M['responseStream'] extends true
    ? (options?: CallOptions) => MessageStream<ResponseOf<M>, RequestOf<M>>
    : (requests: AsyncIterable<RequestOf<M>>, options?: CallOptions) => Promise<ResponseOf<M>>
  : M['responseStream'] extends true
    ? (request: RequestOf<M>, options?: CallOptions) => AsyncIterable<ResponseOf<M>>
    : (request: RequestOf<M>, options?: CallOptions) => Promise<ResponseOf<M>>;

export type Client<S extends ServiceDefinition> = {
  readonly [K in keyof S['methods']]: ClientMethod<S['methods'][K]>;
};
