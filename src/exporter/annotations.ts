import { BuildError } from '../base/errors.ts';
import { formatPlatformFull, parsePlatform, type Platform } from '../oci/platform.ts';
import type { ExportSource } from './exporter.ts';
import { refOf } from './platforms.ts';

const KEY = /^annotation(?:-([a-z-]+))?(?:\[([A-Za-z0-9_/-]+)\])?\.(\S+)$/;
const KINDS = ['index', 'index-descriptor', 'manifest', 'manifest-descriptor'] as const;
type Kind = (typeof KINDS)[number];

interface Annotation {
  readonly kind: Kind;
  /** '' = every platform. */
  readonly platform: string;
  readonly key: string;
  readonly value: string;
}

/** Annotations asked for by `annotation…` keys (FEATURES J15): the exporter's attributes, then the frontend's. */
export class Annotations {
  readonly #list: readonly Annotation[];

  /** @throws for an unknown kind or a bad platform */
  constructor(entries: Iterable<readonly [string, string]>) {
    this.#list = [...entries].flatMap(([name, value]) => {
      const match = KEY.exec(name);
      if (!match) return [];
      const [, type, platform, key = ''] = match;
      const kind = KINDS.find((known) => known === (type ?? 'manifest'));
      if (!kind) throw new BuildError(`unrecognized annotation type ${type}`);
      const id = platform === undefined ? '' : formatPlatformFull(parsePlatform(platform));
      return [{ kind, platform: id, key, value }];
    });
  }

  static isKey(name: string): boolean {
    return KEY.test(name);
  }

  /** With those that the frontend put into the result's metadata. */
  static of(attrs: Readonly<Record<string, string>>, source: ExportSource): Annotations {
    const given = [...source.metadata].map(([k, v]) => [k, Buffer.from(v).toString()] as const);
    return new Annotations([...Object.entries(attrs), ...given]);
  }

  /** @throws for what this result or these media types cannot carry */
  check(source: ExportSource, options: { readonly ociTypes: boolean; readonly single: boolean }): void {
    for (const { platform, kind } of this.#list) {
      if (platform !== '' && !hasRef(source, platform))
        throw new BuildError(`invalid annotation: no platform ${platform} found in source`);
      if (!options.ociTypes && kind !== 'manifest')
        throw new BuildError('cannot export annotations with "oci-mediatypes=false"');
    }
    if (options.single && this.#list.some(({ kind }) => kind.startsWith('index')))
      throw new BuildError('index annotations not supported for single platform export');
  }

  index(): Fields {
    return this.#fields('index', () => true);
  }

  indexDescriptor(): Fields {
    return this.#fields('index-descriptor', () => true);
  }

  manifest(platform: Platform | undefined): Fields {
    return this.#ofPlatform('manifest', platform);
  }

  manifestDescriptor(platform: Platform | undefined): Fields {
    return this.#ofPlatform('manifest-descriptor', platform);
  }

  /** Those of the platform stand above those of all. */
  #ofPlatform(kind: Kind, platform: Platform | undefined): Fields {
    const own = platform && formatPlatformFull(platform);
    const all = this.#fields(kind, (p) => p === '').annotations;
    const special = own === undefined ? {} : this.#fields(kind, (p) => p === own).annotations;
    return fields({ ...all, ...special });
  }

  #fields(kind: Kind, wanted: (platform: string) => boolean): Fields {
    const found = this.#list.filter((a) => a.kind === kind && wanted(a.platform));
    return fields(Object.fromEntries(found.map(({ key, value }) => [key, value])));
  }
}

/** To be spread into a descriptor or manifest. */
interface Fields {
  readonly annotations?: Readonly<Record<string, string>>;
}

function fields(annotations: Readonly<Record<string, string>>): Fields {
  return Object.keys(annotations).length ? { annotations } : {};
}

function hasRef(source: ExportSource, id: string): boolean {
  try {
    refOf(source, id);
    return true;
  } catch {
    return false; // the only way to fail is that there is none
  }
}
