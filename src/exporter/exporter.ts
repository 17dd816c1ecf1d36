import type { ImmutableRef } from '../cache/ref.ts';
import type { VertexProgress } from '../solver/types.ts';

/** What is exported: one tree or one per key (platform id), with the frontend's metadata. null is the empty tree. */
export interface ExportSource {
  readonly ref: ImmutableRef | null;
  readonly refs?: ReadonlyMap<string, ImmutableRef | null>;
  readonly metadata: ReadonlyMap<string, Uint8Array>;
}

export interface ExportContext {
  readonly signal: AbortSignal;
  /** Of the exporter's own vertex. */
  readonly progress: VertexProgress;
  /** Session of the client that asked for the export. */
  readonly sessionId: string;
  /** Place of the exporter in the request; names the client's target (FEATURES C14). */
  readonly index: number;
  /** Holds what is made, until all exporters are finalized. */
  readonly lease: string;
}

/** One exporter of one request, its attributes parsed. */
export interface Exporter {
  /** Name of its vertex, e.g. `exporting to image`. */
  readonly name: string;
  export(source: ExportSource, context: ExportContext): Promise<ExportResult>;
}

export interface ExportResult {
  /** Goes to the client (FEATURES B8, J18). */
  readonly response: Readonly<Record<string, string>>;
  /** What comes after all exporters are done (a push). The context is of a new run of the same vertex. */
  readonly finalize?: (context: ExportContext) => Promise<void>;
}

/** Makes an exporter from a request's attributes. @throws BuildError for attributes that make no sense */
export type ExporterFactory = (attrs: Readonly<Record<string, string>>) => Exporter;
