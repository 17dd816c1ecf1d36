import { readdirSync, readFileSync, statSync } from 'node:fs';
import { extname, join } from 'node:path';
import { BuildError, errno } from '../../base/errors.ts';
import type { Logger } from '../../base/log.ts';
import { SharedTask } from '../../base/shared-task.ts';
import { splitDevice, splitKind } from './names.ts';
import type { DeviceSetup, SetupProgress } from './setup.ts';
import { parseYaml } from './yaml.ts';
import { type CdiDevice, type CdiSpec, cdiSpec, type ContainerEdits } from './spec.ts';

const CLASS = 'org.mobyproject.buildkit.device.class';
const AUTO_ALLOW = 'org.mobyproject.buildkit.device.autoallow';
/** A specification of many devices has some kilobytes for each. */
const MAX_SPEC_BYTES = 4 * 1024 * 1024;

/** What a step asks for (FEATURES G26). */
export interface DeviceRequest {
  /** `vendor/class=name`, `vendor/class=*`, `vendor/class`, or a class that devices are annotated with. */
  readonly name: string;
  readonly optional: boolean;
}

export interface DeviceInfo {
  /** `vendor/class=name`; `vendor/class` of one that is yet to be set up. */
  readonly name: string;
  /** Builds may use it without being granted it. */
  readonly autoAllow: boolean;
  readonly annotations: Readonly<Record<string, string>>;
  /** Set up when a step asks for it. */
  readonly onDemand: boolean;
}

export interface DeviceRegistryOptions {
  /** Later ones take precedence. A missing one has no devices. */
  readonly specDirs: readonly string[];
  /** Devices or kinds that need no entitlement. */
  readonly autoAllowed: readonly string[];
  readonly setups: readonly DeviceSetup[];
  readonly log: Logger;
}

interface Entry {
  readonly spec: CdiSpec;
  readonly device: CdiDevice;
  readonly path: string;
  readonly priority: number;
}

interface FoundFile {
  readonly path: string;
  readonly priority: number;
  /** Changes when the file does. */
  readonly mark: string;
}

/** The devices that specifications on this machine describe (FEATURES A52). Changes are seen at once. */
export class DeviceRegistry {
  readonly #options: DeviceRegistryOptions;
  readonly #autoAllowed: Set<string>;
  readonly #settingUp = new Map<string, SharedTask<void>>();
  #marks = '';
  #entries: ReadonlyMap<string, Entry> = new Map();

  constructor(options: DeviceRegistryOptions) {
    this.#options = options;
    this.#autoAllowed = new Set(options.autoAllowed);
  }

  /** All there are, by name, and what could be set up. */
  list(): DeviceInfo[] {
    const entries = this.#read();
    const kinds = new Set([...entries.values()].map(({ spec }) => spec.kind));
    const known = [...entries.keys()].map((name) => this.#info(entries, name));
    const possible = this.#options.setups
      .filter(({ kind, problem }) => !kinds.has(kind) && problem() === undefined)
      .map(({ kind }) => ({ name: kind, autoAllow: true, annotations: {}, onDemand: true }));
    return [...known, ...possible];
  }

  /** Whether builds may use `name` without being granted it. */
  isAutoAllowed(name: string): boolean {
    return this.#info(this.#read(), name).autoAllow;
  }

  /** Names of the devices that are asked for, each once. @throws BuildError for a required one that is not there */
  find(requests: readonly DeviceRequest[]): string[] {
    const entries = this.#read();
    return [...new Set(requests.flatMap((request) => this.#resolve(entries, request)))];
  }

  /** What the devices change in a container: of each specification first, then of the device. */
  edits(names: readonly string[]): ContainerEdits[] {
    const entries = this.#read();
    const missing = names.filter((name) => !entries.has(name));
    if (missing.length > 0) throw new BuildError(`unresolvable CDI devices ${missing.join(', ')}`);
    const specs = new Set<CdiSpec>();
    return names.flatMap((name) => {
      const { spec, device } = entries.get(name)!;
      const common = specs.has(spec) ? [] : [spec.edits];
      specs.add(spec);
      return [...common, device.edits];
    });
  }

  /** True when `name` is of a kind that `prepare` would set up. */
  isOnDemand(name: string): boolean {
    return this.#setupOf(name) !== undefined;
  }

  /**
   * Sets up what `name` needs when it is not there yet. Several steps share one setup, which `signal` ends when
   * no other waits for it.
   */
  async prepare(name: string, progress: SetupProgress, signal: AbortSignal): Promise<void> {
    const setup = this.#setupOf(name);
    if (!setup) return;
    let task = this.#settingUp.get(setup.kind);
    if (!task) {
      task = new SharedTask((unwanted) => this.#setUp(setup, progress, unwanted));
      this.#settingUp.set(setup.kind, task);
    }
    try {
      await task.join(signal);
    } finally {
      if (task.settled && this.#settingUp.get(setup.kind) === task) this.#settingUp.delete(setup.kind);
    }
  }

  async #setUp(setup: DeviceSetup, progress: SetupProgress, signal: AbortSignal): Promise<void> {
    const problem = setup.problem();
    if (problem !== undefined)
      throw new BuildError(`failed to find preconditions for ${setup.kind} device: ${problem}`);
    try {
      await setup.run(progress, signal);
    } catch (error) {
      throw BuildError.wrap(error, `failed to create ${setup.kind} device`);
    }
    this.#autoAllowed.add(setup.kind);
  }

  #setupOf(name: string): DeviceSetup | undefined {
    const { kind } = splitDevice(name);
    const setup = this.#options.setups.find((one) => one.kind === kind);
    const exists = (): boolean => [...this.#read().values()].some(({ spec }) => spec.kind === kind);
    return setup && !exists() ? setup : undefined;
  }

  #info(entries: ReadonlyMap<string, Entry>, name: string): DeviceInfo {
    const entry = entries.get(name);
    const annotations = entry ? { ...entry.spec.annotations, ...entry.device.annotations } : {};
    const autoAllow =
      this.#autoAllowed.has(name) ||
      this.#autoAllowed.has(splitDevice(name).kind) ||
      /^(1|t|true)$/i.test(annotations[AUTO_ALLOW] ?? '');
    return { name, autoAllow, annotations, onDemand: false };
  }

  #resolve(entries: ReadonlyMap<string, Entry>, { name, optional }: DeviceRequest): string[] {
    const { kind, device } = splitDevice(name);
    const names = [...entries.keys()];
    let found: string[] = [];
    if (splitKind(kind).vendor !== '') {
      const ofKind = names.filter((one) => one.startsWith(`${kind}=`));
      if (device === '*') found = ofKind;
      else found = device === '' ? ofKind.slice(0, 1) : names.filter((one) => one === name);
    }
    if (found.length === 0)
      found = names.filter((one) => this.#info(entries, one).annotations[CLASS] === name);
    if (found.length > 0) return found;
    if (!optional) throw new BuildError(`required device ${JSON.stringify(name)} is not registered`);
    this.#options.log.warn(`Optional device ${JSON.stringify(name)} is not registered`);
    return [];
  }

  /** The devices by full name, read again when a file has changed. */
  #read(): ReadonlyMap<string, Entry> {
    const files = this.#options.specDirs.flatMap((dir, priority) => this.#files(dir, priority));
    const marks = files.map(({ path, mark }) => `${path} ${mark}`).join('\n');
    if (marks === this.#marks) return this.#entries;
    this.#marks = marks;
    const all = files.flatMap((file) => this.#entriesOf(file));
    this.#entries = new Map([...this.#withoutConflicts(all)].sort(([a], [b]) => (a < b ? -1 : 1)));
    return this.#entries;
  }

  #files(dir: string, priority: number): FoundFile[] {
    try {
      return readdirSync(dir)
        .filter((name) => ['.json', '.yaml'].includes(extname(name)))
        .sort()
        .flatMap((name): FoundFile[] => {
          const path = join(dir, name);
          const stat = statSync(path, { bigint: true, throwIfNoEntry: false });
          if (!stat?.isFile()) return [];
          return [{ path, priority, mark: `${stat.ino} ${stat.mtimeNs} ${stat.ctimeNs} ${stat.size}` }];
        });
    } catch (error) {
      if (errno(error) !== 'ENOENT') this.#options.log.warn(`CDI setup error ${dir}`, { error });
      return [];
    }
  }

  #entriesOf({ path, priority }: FoundFile): Entry[] {
    try {
      const spec = readCdiSpec(path);
      return spec.devices.map((device) => ({ spec, device, path, priority }));
    } catch (error) {
      this.#options.log.warn(`CDI setup error ${path}`, { error });
      return [];
    }
  }

  /** Of two devices of one name the one in the later directory; none of two in one directory. */
  #withoutConflicts(all: readonly Entry[]): Map<string, Entry> {
    const found = new Map<string, Entry>();
    const conflicts = new Set<string>();
    for (const entry of all) {
      const name = `${entry.spec.kind}=${entry.device.name}`;
      const other = found.get(name);
      if (other?.priority === entry.priority) {
        conflicts.add(name);
        this.#options.log.warn(`CDI setup error: conflicting device ${name}`, {
          files: `${other.path}, ${entry.path}`,
        });
      }
      found.set(name, entry);
    }
    for (const name of conflicts) found.delete(name);
    return found;
  }
}

/** One specification, in JSON or YAML. @throws BuildError that names the file */
export function readCdiSpec(path: string): CdiSpec {
  try {
    const { size } = statSync(path);
    if (size > MAX_SPEC_BYTES) throw new BuildError(`${size} bytes are too many, at most ${MAX_SPEC_BYTES}`);
    return cdiSpec(parseYaml(readFileSync(path, 'utf8')));
  } catch (error) {
    throw BuildError.wrap(error, `failed to load CDI Spec ${JSON.stringify(path)}`);
  }
}
