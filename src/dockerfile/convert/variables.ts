import type { Variables } from '../expand.ts';

/** Variables that change while the file is read; a new value of a name moves it to the end. */
export class VariableList implements Variables {
  readonly #values: ReadonlyMap<string, string>;

  constructor(values: Iterable<readonly [string, string]> = []) {
    this.#values = new Map(values);
  }

  get(name: string): string | undefined {
    return this.#values.get(name);
  }

  keys(): readonly string[] {
    return [...this.#values.keys()];
  }

  with(name: string, value: string): VariableList {
    const next = new Map(this.#values);
    next.delete(name);
    return new VariableList(next.set(name, value));
  }

  without(name: string): VariableList {
    const next = new Map(this.#values);
    next.delete(name);
    return new VariableList(next);
  }
}

/** `over` first, then `under`. */
export function layered(over: Variables, under: Variables): Variables {
  return {
    get: (name) => over.get(name) ?? under.get(name),
    keys: () => [...under.keys().filter((name) => over.get(name) === undefined), ...over.keys()],
  };
}
