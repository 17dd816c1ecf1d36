// The Dockerfile frontend, in the program that builds: the daemon only solves graphs.
import type { Frontend, GatewayClient } from 'buildkit-ts/client';
import { convert } from 'buildkit-ts/dockerfile';
import { local } from 'buildkit-ts/llb';

/** Files of a folder of the client by name, those of `names` that are there. */
async function read(
  gateway: GatewayClient,
  folder: string,
  names: readonly string[],
): Promise<Record<string, Uint8Array>> {
  const source = local(folder, {
    sessionId: gateway.sessionId,
    includePatterns: names,
    sharedKeyHint: folder,
    customName: `[internal] load ${names.join(', ')}`,
  });
  const { ref } = await gateway.solve({ definition: (await source.marshal()).toBytes() });
  const there = ref ? await ref.readDir('/') : [];
  const found = there.filter(({ path }) => names.includes(path));
  return Object.fromEntries(
    await Promise.all(found.map(async ({ path }) => [path, await ref!.readFile(path)] as const)),
  );
}

/** Build arguments among the options of a frontend. */
function buildArgs(options: Readonly<Record<string, string>>): Record<string, string> {
  const prefix = 'build-arg:';
  const named = Object.entries(options).filter(([key]) => key.startsWith(prefix));
  return Object.fromEntries(named.map(([key, value]) => [key.slice(prefix.length), value]));
}

/** Reads the Dockerfile, asks the daemon about images, and has the graph solved. */
export const dockerfileHere: Frontend = async (gateway) => {
  const { options, signal } = gateway;
  const { filename = 'Dockerfile', target } = options;
  const [files, ignore] = await Promise.all([
    read(gateway, 'dockerfile', [filename, `${filename}.dockerignore`]),
    read(gateway, 'context', ['.dockerignore']),
  ]);
  const file = files[filename];
  if (!file) throw new Error(`there is no ${filename}`);
  const ignoreFile = files[`${filename}.dockerignore`] ?? ignore['.dockerignore'];
  const { definition, imageConfig } = await convert(file, {
    filename,
    buildArgs: buildArgs(options),
    noCache: options['no-cache'] !== undefined,
    capabilities: gateway.llbCapabilities,
    sessionId: gateway.sessionId,
    signal,
    ...(target === undefined ? {} : { target }),
    ...(ignoreFile === undefined ? {} : { ignoreFile }),
    resolveImage: async (reference, { platform, resolveMode }) => {
      const [os = '', architecture = '', variant] = platform.split('/');
      const parts = { os, architecture, ...(variant === undefined ? {} : { variant }) };
      return await gateway.resolveImage(reference, { platform: parts, resolveMode, signal });
    },
  });
  const { ref } = await gateway.solve({ definition });
  return { ref, metadata: { 'containerimage.config': imageConfig } };
};
