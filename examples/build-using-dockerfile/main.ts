// What `docker build` does, by a BuildKit daemon: builds the Dockerfile of a folder and loads the image into Docker.
//
//     node examples/build-using-dockerfile/main.ts -t app:latest .
import { spawn } from 'node:child_process';
import { basename, dirname, join } from 'node:path';
import type { Writable } from 'node:stream';
import { parseArgs } from 'node:util';
import { type BuildOptions, connect } from 'buildkit-ts/client';
import { showProgress } from 'buildkit-ts/progress';
import { dockerfileHere } from './frontend.ts';

const USAGE = `usage: build-using-dockerfile [options] PATH
  -t, --tag NAME            name of the image, name:tag
  -f, --file FILE           the Dockerfile; PATH/Dockerfile when left out
  --target STAGE            stage to build
  --build-arg KEY=VALUE     value of an ARG (more than once)
  --no-cache                run all steps
  --buildkit-addr ADDRESS   the daemon; BUILDKIT_HOST, or one of its own, when left out
  --clientside-frontend     read the Dockerfile in this program instead of the daemon (BUILDKIT_CLIENTSIDE_FRONTEND)
`;

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    tag: { type: 'string', short: 't' },
    file: { type: 'string', short: 'f' },
    target: { type: 'string' },
    'build-arg': { type: 'string', multiple: true },
    'no-cache': { type: 'boolean' },
    'buildkit-addr': { type: 'string' },
    'clientside-frontend': { type: 'boolean', default: Boolean(process.env.BUILDKIT_CLIENTSIDE_FRONTEND) },
    help: { type: 'boolean', short: 'h' },
  },
});

function frontendOptions(file: string): Record<string, string> {
  const options: Record<string, string> = { filename: basename(file) };
  if (values.target) options.target = values.target;
  if (values['no-cache']) options['no-cache'] = '';
  for (const argument of values['build-arg'] ?? []) {
    const at = argument.indexOf('=');
    if (at < 0) throw new Error(`invalid build-arg value ${argument}`);
    options[`build-arg:${argument.slice(0, at)}`] = argument.slice(at + 1);
  }
  return options;
}

/** `docker load`, which reads an image as it comes. */
function dockerLoad(): { readonly input: Writable; readonly done: Promise<void> } {
  const child = spawn('docker', ['load'], { stdio: ['pipe', 'inherit', 'inherit'] });
  const done = new Promise<void>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (code) =>
      code === 0 ? resolve() : reject(new Error(`docker load has failed: ${code}`)),
    );
  });
  done.catch(() => {}); // whoever waits for it is told
  return { input: child.stdin, done };
}

async function main(): Promise<void> {
  const { tag, file: named } = values;
  if (!tag) throw new Error('tag is not specified');
  const [context] = positionals;
  if (context === undefined)
    throw new Error('please specify build context (e.g. "." for the current directory)');
  if (context === '-') throw new Error('stdin not supported yet');
  const file = named ?? join(context, 'Dockerfile');
  const request = {
    frontendOptions: frontendOptions(file),
    locals: { context, dockerfile: dirname(file) },
  };
  await using client = await connect(values['buildkit-addr'] ? { address: values['buildkit-addr'] } : {});
  const load = dockerLoad();
  const options: BuildOptions = { ...request, exports: [{ type: 'docker', name: tag, dest: load.input }] };
  const build = values['clientside-frontend']
    ? client.build(dockerfileHere, options)
    : client.solve({ ...options, frontend: 'dockerfile.v0' });
  try {
    await showProgress(build.progress);
    await build;
  } finally {
    load.input.end();
  }
  await load.done;
  console.error(`Loaded the image "${tag}" to Docker.`);
}

if (values.help) {
  process.stdout.write(USAGE);
} else {
  await main().catch((error: Error) => {
    console.error(`error: ${error.message}`);
    process.exitCode = 1;
  });
}
