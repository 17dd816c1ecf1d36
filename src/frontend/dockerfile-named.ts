import type { Digest } from '../base/digest.ts';
import { BuildError } from '../base/errors.ts';
import { type Image, parseImage } from '../dockerfile/convert/image.ts';
import { LateTree } from '../dockerfile/convert/llb.ts';
import type { NamedContext, NamedContextOptions } from '../dockerfile/convert/options.ts';
import { cut } from '../dockerfile/text.ts';
import { fromDefinition } from '../llb/definition-state.ts';
import { marshal } from '../llb/marshal.ts';
import { http, image, local, ociLayout } from '../llb/source.ts';
import { type State, scratch, stateOf, withImageSettings } from '../llb/state.ts';
import { formatPlatformFull, hostPlatform, normalizePlatform } from '../oci/platform.ts';
import {
  familiarReference,
  formatReference,
  type ImageReference,
  parseBareReference,
  parseReference,
  withDefaultTag,
} from '../oci/reference.ts';
import { type FrontendBridge, NoImage } from './build-bridge.ts';
import { gitContext } from './dockerfile-git.ts';
import { checkInputs, ignoreFileOptions, parsePatterns, readOrNothing } from './dockerfile-context.ts';

const CONFIG_KEY = 'containerimage.config';
/** Times that a policy may send a name on. */
const MAX_CONVERSIONS = 10;

/** How the Dockerfile calls a context, and under which option the client gave it. */
interface Name {
  readonly short: string;
  readonly key: string;
}

type LoadOptions = NamedContextOptions & Parameters<NamedContext['load']>[0];
type Loaded = Awaited<ReturnType<NamedContext['load']>>;

/** Names that the client gave a meaning of their own (FEATURES H15). */
export class NamedContexts<R> {
  readonly #bridge: FrontendBridge<R>;
  readonly #localSessions: ReadonlyMap<string, string>;

  constructor(bridge: FrontendBridge<R>, localSessions: ReadonlyMap<string, string>) {
    this.#bridge = bridge;
    this.#localSessions = localSessions;
  }

  find(name: string, options: NamedContextOptions): NamedContext | undefined {
    const short = shortName(name);
    const platform = normalizePlatform(options.platform ?? hostPlatform());
    for (const key of [`${short}::${formatPlatformFull(platform)}`, short]) {
      const value = this.#bridge.options.get(`context:${key}`);
      if (value !== undefined)
        return { load: (run) => this.#load({ short, key }, value, { ...options, ...run }, 0) };
    }
    return undefined;
  }

  async #load(name: Name, value: string, options: LoadOptions, depth: number): Promise<Loaded> {
    const { key } = name;
    if (depth > MAX_CONVERSIONS)
      throw new BuildError(
        `context recursion limit exceeded; this may indicate a cycle in the provided source policies: ${value}`,
      );
    const [scheme, rest] = cut(value, ':');
    if (rest === undefined) throw new BuildError(`invalid context specifier ${value} for ${key}`);
    const address = rest.replace(/^\/\//, '');
    switch (scheme.startsWith('git@') ? 'git' : scheme) {
      case 'docker-image':
        return this.#image(key, address, options).catch((error: unknown) => {
          if (!(error instanceof NoImage)) throw error;
          const other = error.identifier.replace(/^local:\/\//, 'local:');
          return this.#load(name, other, options, depth + 1);
        });
      case 'http':
      case 'https':
        return { state: gitContext(value) ?? download(key, value) };
      case 'oci-layout':
        return this.#layout(name, address, options);
      case 'local':
        return { state: await this.#local(key, rest, options) };
      case 'input':
        return this.#input(key, rest);
      case 'git':
        return { state: repository(value) };
      default:
        throw new BuildError(`unsupported context source ${scheme} for ${key}`);
    }
  }

  /** The image goes by the context's name; what the client calls the layout only finds it. */
  async #layout({ short, key }: Name, text: string, { platform, signal }: LoadOptions): Promise<Loaded> {
    const { store, digest } = parseLayoutAddress(text);
    const ref = formatReference({ ...parseReference(short), digest });
    const { sessionId } = this.#bridge;
    const resolved = await this.#bridge.resolveLayout(
      ref,
      { sessionId, storeId: store },
      {
        logName: `[context ${key}] load metadata for ${ref}`,
        signal: signal ?? this.#bridge.signal,
        ...(platform ? { platform } : {}),
      },
    );
    const config = parseLayoutConfig(resolved.config);
    const state = ociLayout(ref, {
      sessionId,
      storeId: store,
      customName: `[context ${key}] OCI load from client`,
      ...(platform ? { platform } : {}),
    });
    return { state: withConfig(state, config), image: config };
  }

  async #image(key: string, name: string, options: LoadOptions): Promise<Loaded> {
    if (name === 'scratch') return { state: scratch() };
    const reference = formatReference(withDefaultTag(parseReference(name)));
    const platform = options.platform ?? hostPlatform();
    const resolved = await this.#bridge.resolveImage(reference, {
      platform,
      resolveMode: options.resolveMode,
      logName: `[context ${key}] load metadata for ${name}`,
      signal: options.signal ?? this.#bridge.signal,
    });
    const config = parseImage(resolved.config);
    const state = image(resolved.ref, {
      customName: `[context ${key}] ${name}`,
      ...(options.platform ? { platform: options.platform } : {}),
    });
    return { state: withConfig(state, config), image: { ...config, created: undefined } };
  }

  /** The folder is fetched when the graph is encoded, since only then all paths are known. */
  async #local(key: string, name: string, options: NamedContextOptions): Promise<State> {
    const sessionId = this.#localSessions.get(name) ?? this.#bridge.sessionId;
    const probe = local(name, { sessionId, ...ignoreFileOptions(`context:${key}`, `[context ${key}]`) });
    const ref = await this.#bridge.solve(marshal(probe), [], { evaluate: true });
    const excludePatterns = parsePatterns('.dockerignore', await readOrNothing(ref));
    const sharedKey = this.#bridge.options.get(`sharedkey:localdir:${key}`) ?? '';
    const make = (): State => {
      const followPaths = options.paths();
      return local(name, {
        sessionId,
        excludePatterns,
        sharedKeyHint: `context:${key}-${sharedKey}`,
        customName: `[context ${key}] load from client`,
        ...(followPaths ? { followPaths } : {}),
      });
    };
    return stateOf(new LateTree(make));
  }

  #input(key: string, name: string): Loaded {
    checkInputs(this.#bridge.inputs);
    const definition = this.#bridge.inputs[name];
    if (!definition) throw new BuildError(`invalid input ${name} for ${key}`);
    const state = fromDefinition(definition);
    const metadata = this.#bridge.options.get(`input-metadata:${name}`);
    const encoded = metadata === undefined ? undefined : configOf(metadata);
    if (encoded === undefined) return { state };
    const config = parseImage(Buffer.from(encoded, 'base64'));
    return { state: withConfig(state, config), image: config };
  }
}

function repository(address: string): State {
  const state = gitContext(address);
  if (!state) throw new BuildError(`invalid git context ${address}`);
  return state;
}

function download(key: string, url: string): State {
  return http(url, { filename: 'context', customName: `[context ${key}] ${url}` });
}

function parseLayoutAddress(text: string): { store: string; digest: Digest } {
  let reference: ImageReference;
  try {
    reference = parseBareReference(text);
  } catch (error) {
    throw BuildError.wrap(error, `could not parse oci-layout reference ${JSON.stringify(text)}`);
  }
  const { name, digest } = reference;
  if (digest === undefined)
    throw new BuildError(`oci-layout reference ${JSON.stringify(formatReference(reference))} has no digest`);
  return { store: name, digest };
}

function parseLayoutConfig(bytes: Uint8Array): Image {
  try {
    return parseImage(bytes);
  } catch (error) {
    throw BuildError.wrap(error, 'could not parse oci-layout image config');
  }
}

function configOf(metadata: string): string | undefined {
  try {
    const value = (JSON.parse(metadata) as Record<string, unknown> | null)?.[CONFIG_KEY];
    if (value === undefined || typeof value === 'string') return value;
    throw new BuildError(`${CONFIG_KEY} is no text`);
  } catch (error) {
    throw BuildError.wrap(error, `failed to parse input metadata ${metadata}`);
  }
}

function withConfig(state: State, { config, platform }: Image): State {
  const known = platform.architecture !== '' && platform.os !== '';
  return withImageSettings(state, {
    env: config.env,
    workingDir: config.workingDir,
    ...(known ? { platform } : {}),
  });
}

function shortName(name: string): string {
  try {
    return familiarReference(parseReference(name)).replace(/:latest$/, '');
  } catch (error) {
    throw BuildError.wrap(error, `invalid context name ${name}`);
  }
}
