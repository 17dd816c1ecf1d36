// A frontend for the tests of frontend images. The word behind the image's name says what it does.
import { readFileSync } from 'node:fs';
import { BuildError, Code, type Frontend, runFrontend } from '../../src/frontend/index.ts';
import { copy, file, mkfile } from '../../src/llb/file.ts';
import { marshal } from '../../src/llb/marshal.ts';
import { Definition, Op } from '../../src/llb/ops.ts';
import { local } from '../../src/llb/source.ts';
import { scratch, type State } from '../../src/llb/state.ts';

const bytes = (state: State): Uint8Array => Definition.encode(marshal(state)).finish();

/** The vertex that a graph asks for. */
function headOf(definition: Definition): string {
  return Op.decode(definition.def.at(-1) ?? new Uint8Array()).inputs[0]?.digest ?? '';
}

const tell: Frontend = async (gateway) => {
  const own = Definition.decode(readFileSync('/run/config/buildkit/metadata/frontend.bin'));
  const told = {
    options: gateway.options,
    session: gateway.sessionId,
    workers: gateway.workers.map(({ id, labels, platforms }) => ({ id, labels, platforms })),
    environment: JSON.parse(process.env.BUILDKIT_WORKERS ?? ''),
    caps: [...gateway.capabilities],
    llbCaps: [...gateway.llbCapabilities],
    graph: Buffer.concat(own.def).toString('latin1'),
    cwd: process.cwd(),
  };
  const made = file(scratch(), [mkfile('/told.json', 0o644, Buffer.from(JSON.stringify(told)))]);
  return gateway.solve({ definition: bytes(made) });
};

const build: Frontend = async (gateway) => {
  const source = local('dockerfile', { sessionId: gateway.sessionId });
  const { ref } = await gateway.solve({ definition: bytes(source) });
  const text = Buffer.from((await ref?.readFile('Dockerfile')) ?? []);
  const second = text.subarray(text.indexOf(10) + 1);
  await gateway.warn(headOf(marshal(source)), 'mind the gap');
  console.log('this is not for the daemon');
  const made = file(scratch(), [mkfile('/made', 0o644, second), copy(source, 'Dockerfile', '/copied')]);
  return gateway.solve({ definition: bytes(made) });
};

const frontend: Frontend = async (gateway) => {
  switch (gateway.options.cmdline?.split(' ')[1]) {
    case 'tell':
      return tell(gateway);
    case 'build':
      return build(gateway);
    case 'dockerfile': {
      const { source: _, ...own } = gateway.options;
      return gateway.solve({ frontend: 'dockerfile.v0', frontendOptions: own });
    }
    case 'refuse':
      throw new BuildError('nothing of that kind', { code: Code.notFound });
    case 'code':
      throw new BuildError('with a code', {
        code: Number(gateway.options.code) as Code,
        details: [
          { type: 'errdefs.Subrequest', value: { name: 'of mine' } },
          { typeUrl: 'type.googleapis.com/google.protobuf.Empty', bytes: new Uint8Array() },
        ],
      });
    case 'die':
      process.stderr.write('it hurts\n');
      return process.exit(3);
    case 'hang':
      return new Promise(() => setInterval(() => {}, 1000));
    default:
      return process.exit(0);
  }
};

void runFrontend(frontend);
