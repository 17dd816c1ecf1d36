import { SharedTask } from '../base/shared-task.ts';
import type { Descriptor } from '../oci/descriptor.ts';

/** What tags resolved to within one build. */
export class ImageMemo {
  readonly #tasks = new Map<string, SharedTask<Descriptor>>();

  async resolve(
    name: string,
    work: (signal: AbortSignal) => Promise<Descriptor>,
    signal: AbortSignal,
  ): Promise<Descriptor> {
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
