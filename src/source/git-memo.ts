import { SharedTask } from '../base/shared-task.ts';
import type { GitTip } from './git-spec.ts';

/** What a ref resolved to, and the name of the default branch where no ref was given. */
export interface GitFound extends GitTip {
  readonly asked: string;
}

/** Refs that one build has resolved (FEATURES E29): they stay what they are though the repository moves on. */
export class GitMemo {
  readonly #tasks = new Map<string, SharedTask<GitFound>>();

  async resolve(
    key: string,
    work: (signal: AbortSignal) => Promise<GitFound>,
    signal: AbortSignal,
  ): Promise<GitFound> {
    let task = this.#tasks.get(key);
    if (!task) {
      task = new SharedTask(work);
      this.#tasks.set(key, task);
    }
    try {
      return await task.join(signal);
    } catch (error) {
      // A failure holds for those who waited with us, not for the rest of the build.
      if (this.#tasks.get(key) === task) this.#tasks.delete(key);
      throw error;
    }
  }
}
