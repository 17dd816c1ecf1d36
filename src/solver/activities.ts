/** Something that goes on, for state dumps. */
export interface Activity {
  readonly what: string;
  /** Unix milliseconds. */
  readonly since: number;
}

/** What goes on at one place. */
export class Activities {
  readonly #open = new Set<Activity>();

  /** Oldest first. */
  get list(): readonly Activity[] {
    return [...this.#open];
  }

  /** Shows `work` for as long as it runs. */
  async at<T>(what: string, work: () => Promise<T>): Promise<T> {
    const activity = { what, since: Date.now() };
    this.#open.add(activity);
    try {
      return await work();
    } finally {
      this.#open.delete(activity);
    }
  }
}
