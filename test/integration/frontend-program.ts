// A frontend for the tests of frontend images. The word behind the image's name says what it does.
import { readFileSync } from 'node:fs';
import { Duplex } from 'node:stream';
import { BuildError, Code } from '../../src/base/errors.ts';
import { copy, file, mkfile } from '../../src/llb/file.ts';
import { marshal } from '../../src/llb/marshal.ts';
import { Definition, Op } from '../../src/llb/ops.ts';
import { local } from '../../src/llb/source.ts';
import { scratch, type State } from '../../src/llb/state.ts';
import { LLBBridgeDefinition, type Result, type SolveRequest } from '../../src/pb/gateway.ts';
import { connectGrpc } from '../../src/rpc/client.ts';
import { statusOf } from '../../src/rpc/status.ts';

const OPTION = 'BUILDKIT_FRONTEND_OPT_';
const options = Object.fromEntries(
  Object.entries(process.env)
    .filter(([name]) => name.startsWith(OPTION))
    .map(([, value = '']) => [value.slice(0, value.indexOf('=')), value.slice(value.indexOf('=') + 1)]),
);
const bridge = connectGrpc(
  Duplex.from({ readable: process.stdin, writable: process.stdout } as never),
).client(LLBBridgeDefinition);

async function solve(request: Partial<SolveRequest>): Promise<Result> {
  const { result } = await bridge.solve({
    Definition: undefined,
    Frontend: '',
    FrontendOpt: {},
    allowResultReturn: true,
    allowResultArrayRef: true,
    Final: false,
    ExporterAttr: new Uint8Array(),
    CacheImports: [],
    FrontendInputs: {},
    Evaluate: false,
    SourcePolicies: [],
    ...request,
  });
  if (!result) throw new Error('no result');
  return result;
}

const graph = (state: State): Promise<Result> => solve({ Definition: marshal(state) });

function refOf({ result }: Result): string {
  return result?.$case === 'ref' ? result.value.id : '';
}

async function tell(): Promise<Result> {
  const pong = await bridge.ping({});
  const own = Definition.decode(readFileSync('/run/config/buildkit/metadata/frontend.bin'));
  const told = {
    options,
    session: process.env.BUILDKIT_SESSION_ID,
    workers: JSON.parse(process.env.BUILDKIT_WORKERS ?? ''),
    caps: pong.FrontendAPICaps.map(({ ID }) => ID),
    llbCaps: pong.LLBCaps.map(({ ID }) => ID),
    graph: Buffer.concat(own.def).toString('latin1'),
    cwd: process.cwd(),
  };
  return graph(file(scratch(), [mkfile('/told.json', 0o644, Buffer.from(JSON.stringify(told)))]));
}

/** The vertex that a graph asks for. */
function headOf(definition: Definition): string {
  return Op.decode(definition.def.at(-1) ?? new Uint8Array()).inputs[0]?.digest ?? '';
}

async function build(): Promise<Result> {
  const source = local('dockerfile', { sessionId: process.env.BUILDKIT_SESSION_ID ?? '' });
  const Ref = refOf(await graph(source));
  const { Data } = await bridge.readFile({ Ref, FilePath: 'Dockerfile', Range: undefined, MountIndex: 0 });
  const second = Data.subarray(Data.indexOf(10) + 1);
  await bridge.warn({
    digest: headOf(marshal(source)),
    level: 1n,
    short: Buffer.from('mind the gap'),
    detail: [],
    url: '',
    info: undefined,
    ranges: [],
  });
  return graph(file(scratch(), [mkfile('/made', 0o644, second), copy(source, 'Dockerfile', '/copied')]));
}

async function run(what: string): Promise<Result | undefined> {
  switch (what) {
    case 'tell':
      return tell();
    case 'build':
      return build();
    case 'dockerfile': {
      const { source: _, ...own } = options;
      return solve({ Frontend: 'dockerfile.v0', FrontendOpt: own });
    }
    case 'refuse':
      throw new BuildError('nothing of that kind', { code: Code.notFound });
    case 'die':
      process.stderr.write('it hurts\n');
      return process.exit(3);
    case 'hang':
      return new Promise(() => setInterval(() => {}, 1000));
    default:
      return undefined;
  }
}

async function main(): Promise<void> {
  try {
    const result = await run(options.cmdline?.split(' ')[1] ?? '');
    if (result) await bridge.return({ result, error: undefined });
  } catch (error) {
    await bridge.return({ result: undefined, error: statusOf(error) });
  }
  process.exit(0);
}

void main();
