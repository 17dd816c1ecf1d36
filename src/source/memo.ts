import { SharedTask } from '../base/shared-task.ts';

/** What one build has resolved, by name (FEATURES E29): it stays what it is though the source moves on. */
export class ResolveMemo<T> {
  readonly #tasks = new Map<string, SharedTask<T>>();

  async resolve(name: string, work: (signal: AbortSignal) => Promise<T>, signal: AbortSignal): Promise<T> {
    let task = this.#tasks.get(name);
    if (!task) {
      task = new SharedTask(work);
      this.#tasks.set(name, task);
    }
    try {
      return await task.join(signal);
    } catch (error) {
      // A failure holds for those who waited with us, not for the rest of the build.
      if (this.#tasks.get(name) === task) this.#tasks.delete(name);
      throw error;
    }
  }
}
