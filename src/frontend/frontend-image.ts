import { parseDigest } from '../base/digest.ts';
import { parseImage } from '../dockerfile/convert/image.ts';
import { marshal } from '../llb/marshal.ts';
import type { Definition } from '../llb/ops.ts';
import { image } from '../llb/source.ts';
import type { State } from '../llb/state.ts';
import { hostPlatform } from '../oci/platform.ts';
import { formatReference, parseReference, withDefaultTag } from '../oci/reference.ts';
import { parseBool } from '../base/flags.ts';
import type { Bridge, SolveRequest } from './bridge.ts';
import { daemonBridge } from './dockerfile-bridge.ts';
import { NamedContexts } from './dockerfile-named.ts';
import { capNames } from './frontend-caps.ts';

const NETWORK_LABEL = 'moby.buildkit.frontend.network.none';
const CAPS_LABEL = 'moby.buildkit.frontend.caps';
const INPUTS = 'moby.buildkit.frontend.inputs';
/** docker/dockerfile 1.1.6 and 1.1.7 take inputs and have no label that says so. */
const TAKES_INPUTS: readonly string[] = [
  'sha256:9ac1c43a60e31dca741a6fe8314130a9cd4c4db0311fbbc636ff992ef60ae76d',
  'sha256:080bd74d8778f83e7b670de193362d8c593c8b14f5c8fb919d28ee8feda0d069',
  'sha256:60543a9d92b92af5088fb2938fb09b2072684af8384399e153e137fe081f8ab4',
  'sha256:de85b2f3a3e8a2f7fe48e8e84a65f6fdd5cd5183afa6412fff9caa6871649c44',
];

/** The image of a frontend, found and not yet pulled. */
export interface FrontendImage {
  readonly definition: Definition;
  readonly config: {
    readonly entrypoint?: readonly string[] | undefined;
    readonly env?: readonly string[] | undefined;
    readonly workingDir?: string | undefined;
  };
  readonly caps: ReadonlySet<string>;
  /** It asks to have no network. */
  readonly networkNone: boolean;
}

/** What the option `source` names: a context of that name, else an image of a registry. */
export async function findFrontendImage(
  bridge: Bridge,
  request: SolveRequest,
  source: string,
  signal: AbortSignal,
): Promise<FrontendImage> {
  const own = daemonBridge(bridge, request, signal);
  const named = new NamedContexts(own, new Map()).find(source, {
    resolveMode: 'default',
    paths: () => undefined,
  });
  if (named) {
    const loaded = await named.load({ signal });
    return frontendImage(loaded.state, loaded.image, undefined);
  }
  const reference = withDefaultTag(parseReference(source));
  const found = await own.resolveImage(formatReference(reference), {
    platform: hostPlatform(),
    resolveMode: 'default',
    logName: `resolve image config for docker-image://${formatReference(reference)}`,
    signal,
  });
  const pinned = {
    ...parseReference(found.ref),
    ...(found.digest ? { digest: parseDigest(found.digest) } : {}),
  };
  const state = image(formatReference(pinned), { recordType: 'frontend' });
  return frontendImage(state, parseImage(found.config), found.digest);
}

function frontendImage(
  state: State,
  config: ReturnType<typeof parseImage> | undefined,
  digest: string | undefined,
): FrontendImage {
  const label = (name: string): string => config?.config.labels?.get(name) ?? '';
  const caps = new Set(capNames(label(CAPS_LABEL)));
  if (digest !== undefined && TAKES_INPUTS.includes(digest)) caps.add(INPUTS);
  return {
    definition: marshal(state),
    config: config?.config ?? {},
    caps,
    networkNone: parseBool(label(NETWORK_LABEL)) === true,
  };
}
