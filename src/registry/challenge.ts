/** One challenge of a WWW-Authenticate header (RFC 9110 11.6.1). */
export interface Challenge {
  readonly scheme: 'bearer' | 'basic';
  readonly parameters: ReadonlyMap<string, string>;
}

/** The challenges this client can answer, Bearer before Basic. */
export function parseChallenges(headers: readonly string[]): Challenge[] {
  const found: Challenge[] = [];
  for (const header of headers) {
    const scheme = /^\s*([A-Za-z]+)/.exec(header)?.[1]?.toLowerCase();
    if (scheme !== 'bearer' && scheme !== 'basic') continue;
    const parameters = new Map<string, string>();
    for (const [, key = '', quoted, plain] of header.matchAll(/([\w-]+)=(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))/g))
      parameters.set(
        key.toLowerCase(),
        quoted === undefined ? (plain ?? '') : quoted.replace(/\\(.)/g, '$1'),
      );
    found.push({ scheme, parameters });
  }
  return found.sort((a, b) => (a.scheme < b.scheme ? 1 : a.scheme > b.scheme ? -1 : 0));
}

/** Access scopes, `repository:NAME:pull,push`, as a set: equal resources are one entry with all actions. */
export class Scopes {
  readonly #actions = new Map<string, Set<string>>();

  constructor(scopes: Iterable<string>) {
    for (const scope of scopes) for (const one of scope.split(' ')) this.#add(one);
  }

  #add(scope: string): void {
    if (scope === '') return;
    const [type = '', ...rest] = scope.split(':');
    // The name may have colons (a host with port); the actions never do.
    const actions = rest.length > 1 ? rest.pop() : undefined;
    const name = [type, ...rest].join(':');
    const known = this.#actions.get(name) ?? new Set<string>();
    for (const action of actions?.split(',') ?? []) known.add(action);
    this.#actions.set(name, known);
  }

  contains(other: Scopes): boolean {
    return [...other.#actions].every(([name, actions]) => {
      const own = this.#actions.get(name);
      return own !== undefined && [...actions].every((action) => own.has(action));
    });
  }

  /** Sorted. */
  list(): string[] {
    return [...this.#actions.keys()]
      .sort()
      .map((name) => `${name}:${[...this.#actions.get(name)!].sort().join(',')}`);
  }
}
