import type { Platform } from '../../oci/platform.ts';

/** Key of the value that a public object stands for. Never part of the published types. */
export const LAZY = Symbol('lazy');

/** What there is to know when a graph is marshalled. */
export interface Context {
  /** Of steps that name none. */
  readonly platform: Platform;
  readonly signal: AbortSignal | undefined;
  /** What is made once for each marshal. */
  readonly made: Map<Lazy<unknown>, Promise<unknown>>;
}

export function newContext(platform: Platform, signal: AbortSignal | undefined): Context {
  return { platform, signal, made: new Map() };
}

/**
 * A value that is there, or is made when a graph is marshalled. Whatever can be made at once is made at once, so that
 * mistakes show where they are made.
 */
export class Lazy<T> {
  readonly #make: ((context: Context) => T | Promise<T>) | undefined;
  readonly #value: T | undefined;

  private constructor(value: T | undefined, make?: (context: Context) => T | Promise<T>) {
    this.#value = value;
    this.#make = make;
  }

  static of<T>(value: T): Lazy<T> {
    return new Lazy(value);
  }

  /** `make` runs once for each context. */
  static later<T>(make: (context: Context) => T | Promise<T>): Lazy<T> {
    return new Lazy<T>(undefined, make);
  }

  static all<A extends readonly unknown[], T>(
    parts: { readonly [K in keyof A]: Lazy<A[K]> },
    make: (...values: A) => T,
  ): Lazy<T> {
    const lazies: readonly Lazy<unknown>[] = parts;
    if (lazies.every((part) => part.#make === undefined))
      return Lazy.of(make(...(lazies.map((part) => part.#value) as unknown as A)));
    return Lazy.later(async (context) => {
      const values = await Promise.all(lazies.map((part) => part.resolve(context)));
      return make(...(values as unknown as A));
    });
  }

  map<U>(make: (value: T) => U): Lazy<U> {
    return Lazy.all<[T], U>([this], make);
  }

  async resolve(context: Context): Promise<T> {
    const make = this.#make;
    if (make === undefined) return this.#value as T;
    const known = context.made.get(this) as Promise<T> | undefined;
    if (known) return known;
    // In a turn of its own: chains are longer than the stack.
    const made = Promise.resolve(context).then(make);
    context.made.set(this, made);
    return made;
  }
}
