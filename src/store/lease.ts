/** What a lease can hold. `id` is a blob's digest or a snapshot's name. */
export interface LeaseResource {
  readonly kind: 'content' | 'snapshot';
  readonly id: string;
}

export interface LeaseInfo {
  readonly id: string;
  readonly createdAt: Date;
  readonly expiresAt: Date | undefined;
  /** A flat lease holds its resources only; another also what their gc labels name. */
  readonly flat: boolean;
  /** Belongs to running work; deleted when the daemon starts. */
  readonly temporary: boolean;
  readonly labels: Readonly<Record<string, string>>;
}

export interface LeaseOptions {
  /** Random when absent. */
  readonly id?: string;
  readonly flat?: boolean;
  readonly temporary?: boolean;
  readonly expiresInMs?: number;
  readonly labels?: Readonly<Record<string, string>>;
}

/** A lease taken for the time of some work; disposing deletes it. */
export interface HeldLease extends Disposable {
  readonly id: string;
}

/** Leases keep blobs and snapshots from the garbage collector (FEATURES F11). All calls are synchronous. */
export interface LeaseStore {
  /** @throws alreadyExists. */
  create(options?: LeaseOptions): LeaseInfo;
  /** A temporary lease with the usual lifetime of one hour. */
  hold(options?: Omit<LeaseOptions, 'temporary'>): HeldLease;
  get(id: string): LeaseInfo | undefined;
  has(id: string): boolean;
  list(): readonly LeaseInfo[];
  /** What it held becomes garbage unless something else holds it. Deleting an unknown lease does nothing. */
  delete(id: string): void;
  /** Adding twice does nothing. The resource need not exist yet. @throws notFound for an unknown lease. */
  add(id: string, resource: LeaseResource): void;
  drop(id: string, resource: LeaseResource): void;
  resources(id: string): readonly LeaseResource[];
  /** Leases that hold `resource`, without those that have expired. */
  holders(resource: LeaseResource): readonly string[];
}

/** Life of a temporary lease whose owner never comes back, in milliseconds. */
export const TEMPORARY_LEASE_MS = 60 * 60 * 1000;
