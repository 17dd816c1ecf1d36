// A frontend of its own: builds what the lines of an `Appfile` say.
//
//     # syntax=registry.example/appfile:1
//     from alpine
//     copy src /app
//     run chmod +x /app/start
//     start /app/start --fast
//
// The same function runs in the image that the first line names (image.ts makes it) and in any program
// (in-process.ts).
import {
  BuildError,
  Code,
  type Frontend,
  type FrontendResult,
  type GatewayClient,
  runFrontend,
} from 'buildkit-ts/frontend';
import { copy, image, local, type State, scratch, shell } from 'buildkit-ts/llb';

interface App {
  readonly state: State;
  readonly start: readonly string[];
}

export const appfile: Frontend = async (gateway): Promise<FrontendResult> => {
  const lines = await readLines(gateway);
  let app: App = { state: scratch(), start: [] };
  for (const [index, line] of lines.entries()) app = step(gateway, app, line, index + 1);
  const definition = await app.state.marshal();
  const { ref } = await gateway.solve({ definition });
  const settings = await app.state.settings();
  const [platform] = gateway.workers[0]?.platforms ?? [];
  const config = {
    os: platform?.os,
    architecture: platform?.architecture,
    config: { Env: Object.entries(settings.env).map(([name, value]) => `${name}=${value}`), Cmd: app.start },
    rootfs: { type: 'layers' },
  };
  return { ref, metadata: { 'containerimage.config': JSON.stringify(config) } };
};

async function readLines(gateway: GatewayClient): Promise<string[]> {
  const name = gateway.options.filename ?? 'Appfile';
  const source = local('dockerfile', { followPaths: [name], sessionId: gateway.sessionId });
  const { ref } = await gateway.solve({ definition: await source.marshal() });
  const text = new TextDecoder().decode(await ref?.readFile(name));
  return text.trimEnd().split('\n');
}

function step(gateway: GatewayClient, { state, start }: App, line: string, number: number): App {
  const [word = '', ...words] = line.split(/\s+/);
  const rest = words.join(' ');
  switch (word) {
    case '':
    case '#':
      return { state, start };
    case 'from': {
      const resolver: Parameters<typeof image>[1] = {
        resolver: (reference, options) => gateway.resolveImage(reference, options),
      };
      return { state: image(rest, resolver), start };
    }
    case 'copy': {
      const [from = '', to = ''] = words;
      const context = local('context', { includePatterns: [from], sessionId: gateway.sessionId });
      return {
        state: state.file(copy(context, from, to, { createDestPath: true }), { customName: line }),
        start,
      };
    }
    case 'run':
      return { state: state.run(shell(rest), { customName: line }), start };
    case 'start':
      return { state, start: words };
    default:
      throw new BuildError(`Appfile:${number}: unknown word ${word}`, { code: Code.invalidArgument });
  }
}

if (import.meta.main) await runFrontend(appfile);
