// What the examples share: flags, the definition on standard output, and images to build Go programs in.
import { parseArgs } from 'node:util';
import { type Command, image, type MarshalOptions, type Run, type State } from 'buildkit-ts/llb';

const UNIX_PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';

/** Flags of the command line, `--name=value`, below their defaults. A flag without a value is `true`. */
export function flags<T extends Readonly<Record<string, string>>>(defaults: T): Record<keyof T, string> {
  const options = Object.fromEntries(
    Object.keys(defaults).map((name) => [name, { type: 'string' as const }]),
  );
  const args = process.argv.slice(2).map((arg) => (arg.includes('=') ? arg : `${arg}=true`));
  return { ...defaults, ...parseArgs({ args, options }).values };
}

/** Writes the graph to standard output, where `buildctl build` and `buildctl debug dump-llb` read it. */
export async function write(state: State, options: MarshalOptions = {}): Promise<void> {
  process.stdout.write((await state.marshal(options)).toBytes());
}

/** Alpine with Go and what `installs` add. */
export function goBase(...installs: readonly Command[]): State {
  const go = image('docker.io/library/golang:1.26-alpine')
    .env('PATH', `/usr/local/go/bin:${UNIX_PATH}`)
    .env('GOPATH', '/go');
  return installs.reduce((state: State, install): Run<never> => state.run(install), go);
}
