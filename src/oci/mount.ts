/** One mount(8)-style mount, as the runtime spec and snapshotters give it. */
export interface Mount {
  /** `overlay`, `bind`, `tmpfs`, … */
  readonly type: string;
  readonly source: string;
  readonly options: readonly string[];
}
