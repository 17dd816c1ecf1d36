import type { Location } from '../location.ts';
import type { StageState } from './stage.ts';

/** A build argument as an outline shows it. */
export interface OutlineArg {
  readonly name: string;
  readonly description: string;
  /** '' without one. */
  readonly value: string;
  readonly location: Location;
  /** Other arguments that the default value is made from. */
  readonly deps: ReadonlySet<string>;
}

export interface OutlineSecret {
  readonly name: string;
  readonly required: boolean;
  readonly location: Location;
}

/** What the client can give to the build of a target (FEATURES H81). */
export interface Outline {
  readonly name: string;
  readonly description: string;
  readonly args: readonly OutlineArg[];
  readonly secrets: readonly OutlineSecret[];
  readonly ssh: readonly OutlineSecret[];
}

/** Collects what one stage asks for. */
export class OutlineNotes {
  readonly args: Map<string, OutlineArg>;
  readonly used: Set<string>;
  readonly secrets = new Map<string, OutlineSecret>();
  readonly ssh = new Map<string, OutlineSecret>();

  /** `args` are those of the global scope. */
  constructor(args: ReadonlyMap<string, OutlineArg> = new Map(), used: Iterable<string> = []) {
    this.args = new Map(args);
    this.used = new Set(used);
  }

  /** For a stage on top of this one. */
  clone(): OutlineNotes {
    return new OutlineNotes(this.args, this.used);
  }

  use(names: Iterable<string>): void {
    for (const name of names) this.used.add(name);
  }

  /** Arguments that the stage uses, and those that their defaults need. */
  usedArgs(): OutlineArg[] {
    // A set is visited in order of insertion, also what is added meanwhile.
    const names = new Set(this.used);
    for (const name of names) {
      for (const dep of this.args.get(name)?.deps ?? []) names.add(dep);
    }
    return [...names].flatMap((name) => this.args.get(name) ?? []);
  }
}

/** The outline of a stage and of all stages it is made from; the innermost word on a name counts. */
export function outlineOf(target: StageState): Outline {
  const args = new Map<string, OutlineArg>();
  const secrets = new Map<string, OutlineSecret>();
  const ssh = new Map<string, OutlineSecret>();
  for (const { outline } of depthFirst(target)) {
    for (const arg of outline.usedArgs()) addNew(args, arg);
    for (const secret of outline.secrets.values()) addNew(secrets, secret);
    for (const socket of outline.ssh.values()) addNew(ssh, socket);
  }
  return {
    name: target.head.name,
    description: target.head.description,
    args: byLine(args),
    secrets: byLine(secrets),
    ssh: byLine(ssh),
  };
}

/** The target, then its base and what that needs, then its other sources. */
function depthFirst(target: StageState): Set<StageState> {
  const found = new Set<StageState>();
  const open = [target];
  for (let stage = open.pop(); stage; stage = open.pop()) {
    if (found.has(stage)) continue;
    found.add(stage);
    open.push(...[...stage.deps.keys()].reverse(), ...(stage.base ? [stage.base] : []));
  }
  return found;
}

function addNew<T extends { readonly name: string }>(known: Map<string, T>, item: T): void {
  if (!known.has(item.name)) known.set(item.name, item);
}

function byLine<T extends { readonly location: Location }>(items: ReadonlyMap<string, T>): T[] {
  const line = ({ location }: T): number => location[0]?.start.line ?? 0;
  return [...items.values()].sort((a, b) => line(a) - line(b));
}
