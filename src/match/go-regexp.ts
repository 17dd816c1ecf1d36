import { BuildError } from '../base/errors.ts';
import { GoSyntaxError, type Instruction, parseGoRegExp, type Program } from './go-regexp-parse.ts';

/** Steps that expressions may still take. */
export interface Budget {
  left: number;
}

interface Thread {
  readonly pc: number;
  /** Places in the text: `saved[2 * n]` to `saved[2 * n + 1]` is group n; group 0 is all of it. */
  readonly saved: readonly (number | undefined)[];
}

/**
 * A regular expression in the syntax and with the choices of Go's (RE2). Goes through the text once with all
 * places of the expression that can be reached, so that no expression takes more than text times length, and
 * takes that from a budget.
 */
export class GoRegExp {
  readonly #program: readonly Instruction[];
  readonly #names: Program['names'];

  /** @throws BuildError for what is no expression, or one too long */
  constructor(source: string) {
    try {
      ({ program: this.#program, names: this.#names } = parseGoRegExp(source));
    } catch (error) {
      if (error instanceof GoSyntaxError) throw new BuildError(`error parsing regexp: ${error.message}`);
      throw error;
    }
  }

  /** Instructions that it became. */
  get size(): number {
    return this.#program.length;
  }

  test(text: string, budget: Budget): boolean {
    return this.#find(Array.from(text), 0, budget) !== undefined;
  }

  /** The text with every match replaced by the template, where `$1`, `${1}` and `${name}` are groups. */
  replaceAll(text: string, template: string, budget: Budget): string {
    const chars = Array.from(text);
    let out = '';
    let end = 0;
    for (let from = 0; from <= chars.length; ) {
      const found = this.#find(chars, from, budget);
      if (!found) break;
      const [start = 0, stop = 0] = found;
      out += chars.slice(end, start).join('');
      if (stop > end || start === 0) out += this.#expand(template, chars, found);
      end = stop;
      from = Math.max(from + 1, stop);
    }
    return out + chars.slice(end).join('');
  }

  #expand(template: string, chars: readonly string[], saved: Thread['saved']): string {
    return template.replace(
      /\$(?:(\$)|\{([\p{L}\p{Nd}_]+)\}|([\p{L}\p{Nd}_]+))/gu,
      (_all, dollar, braced, bare) => {
        if (dollar) return '$';
        const name: string = braced ?? bare;
        const groups = /^\d+$/.test(name) ? [Number(name)] : (this.#names.get(name) ?? []);
        const group = groups.find((one) => saved[2 * one + 1] !== undefined) ?? saved.length;
        const [start, stop] = [saved[2 * group], saved[2 * group + 1]];
        return start === undefined || stop === undefined ? '' : chars.slice(start, stop).join('');
      },
    );
  }

  /** The leftmost match at or behind a place; of those that start there the one Go prefers. */
  #find(chars: readonly string[], from: number, budget: Budget): Thread['saved'] | undefined {
    const seen = new Int32Array(this.#program.length);
    let found: Thread['saved'] | undefined;
    let threads: Thread[] = [];
    for (let at = from; at <= chars.length; at++) {
      if (!found) this.#follow({ pc: 0, saved: [] }, { chars, at, seen, threads, budget });
      else if (threads.length === 0) break;
      const next: Thread[] = [];
      for (const { pc, saved } of threads) {
        const step = this.#program[pc]!;
        if (step.kind === 'match') {
          found = saved; // those behind it are less wanted
          break;
        }
        if (step.kind !== 'char' || at === chars.length || !step.accepts(chars[at]!)) continue;
        this.#follow({ pc: pc + 1, saved }, { chars, at: at + 1, seen, threads: next, budget });
      }
      threads = next;
    }
    return found;
  }

  /** Adds the places that a thread reaches without a further character, the most wanted first. */
  #follow(thread: Thread, { chars, at, seen, threads, budget }: Where): void {
    const stack = [thread];
    for (let top = stack.pop(); top; top = stack.pop()) {
      if (budget.left-- <= 0) throw new BuildError('regular expressions take too many steps');
      const { pc, saved } = top;
      if (seen[pc] === at + 1) continue;
      seen[pc] = at + 1;
      const step = this.#program[pc]!;
      if (step.kind === 'char' || step.kind === 'match') threads.push(top);
      else if (step.kind === 'split') stack.push({ pc: step.second, saved }, { pc: step.first, saved });
      else if (step.kind === 'jump') stack.push({ pc: step.to, saved });
      else if (step.kind === 'save') {
        const copy = [...saved];
        copy[step.slot] = at;
        stack.push({ pc: pc + 1, saved: copy });
      } else if (step.holds(chars, at)) stack.push({ pc: pc + 1, saved });
    }
  }
}

interface Where {
  readonly chars: readonly string[];
  readonly at: number;
  /** By place of the program: where it was last reached, plus one. */
  readonly seen: Int32Array;
  readonly threads: Thread[];
  readonly budget: Budget;
}
