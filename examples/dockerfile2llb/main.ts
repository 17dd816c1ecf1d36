// A Dockerfile on standard input becomes a build graph (LLB) on standard output:
//   node examples/dockerfile2llb/main.ts < Dockerfile | buildctl debug dump-llb
//   node examples/dockerfile2llb/main.ts < Dockerfile | buildctl build --local context=.
import { readFileSync, writeFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { convert, DockerfileError, type ImageResolver } from 'buildkit-ts/dockerfile';
import { fromFile } from './images.ts';
import { fromRegistry } from './registry.ts';

const USAGE = `usage: dockerfile2llb [options] < Dockerfile > definition
  --target STAGE            stage to build; the last one when left out
  --platform OS/ARCH        platform of the result
  --build-arg KEY=VALUE     value of an ARG (more than once)
  --label KEY=VALUE         label of the image (more than once)
  --ignore-file FILE        patterns of files that the context leaves out
  --images FILE             image configs, JSON; without it they come from registries
  --unique-id ID            tells the context of this build from that of another
  --no-source-map           leave the text of the Dockerfile out of the definition
  --image-config FILE       write the image config there
  --base-image-config FILE  write the config of the base image there
`;

/** Exits like a filter: 1 for bad input, 2 for a bad command line. */
const BAD_INPUT = 1;
const BAD_USAGE = 2;

function optionsOf(args: string[]) {
  const text = { type: 'string' } as const;
  const list = { type: 'string', multiple: true } as const;
  const flag = { type: 'boolean' } as const;
  return parseArgs({
    args,
    options: {
      target: text,
      platform: text,
      'build-arg': list,
      label: list,
      'ignore-file': text,
      images: text,
      'unique-id': text,
      'no-source-map': flag,
      'image-config': text,
      'base-image-config': text,
      help: flag,
    },
  }).values;
}

function pairs(list: readonly string[] = []): Record<string, string> {
  return Object.fromEntries(
    list.map((pair) => {
      const at = pair.indexOf('=');
      return at < 0 ? [pair, ''] : [pair.slice(0, at), pair.slice(at + 1)];
    }),
  );
}

async function main(options: ReturnType<typeof optionsOf>): Promise<void> {
  const { target, platform } = options;
  const ignoreFile = options['ignore-file'];
  const uniqueId = options['unique-id'];
  const resolveImage: ImageResolver =
    options.images === undefined ? fromRegistry : fromFile(readFileSync(options.images, 'utf8'));
  const result = await convert(readFileSync(0), {
    resolveImage,
    buildArgs: pairs(options['build-arg']),
    labels: pairs(options.label),
    sourceMap: options['no-source-map'] !== true,
    onWarning: ({ rule, message, location }) =>
      process.stderr.write(`${rule}: ${message} (line ${location[0]?.start.line})\n`),
    ...(target === undefined ? {} : { target }),
    ...(platform === undefined ? {} : { platform }),
    ...(uniqueId === undefined ? {} : { uniqueId }),
    ...(ignoreFile === undefined ? {} : { ignoreFile: readFileSync(ignoreFile) }),
  });
  const { 'image-config': image, 'base-image-config': base } = options;
  if (image !== undefined) writeFileSync(image, result.imageConfig);
  if (base !== undefined) writeFileSync(base, result.baseImageConfig ?? 'null');
  process.stdout.write(result.definition);
}

function fail(error: unknown): void {
  const lines = error instanceof DockerfileError ? error.locations.flat() : [];
  const line = lines[0]?.start.line;
  const message = error instanceof Error ? error.message : String(error);
  process.stderr.write(`dockerfile2llb: ${line === undefined ? '' : `line ${line}: `}${message}\n`);
  if (error instanceof DockerfileError && error.hint) process.stderr.write(`${error.hint}\n`);
  process.exitCode = BAD_INPUT;
}

let options: ReturnType<typeof optionsOf> | undefined;
try {
  options = optionsOf(process.argv.slice(2));
} catch (error) {
  process.stderr.write(`${(error as Error).message}\n${USAGE}`);
  process.exitCode = BAD_USAGE;
}
if (options?.help) process.stdout.write(USAGE);
else if (options) await main(options).catch(fail);
