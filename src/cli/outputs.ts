import { closeSync, createWriteStream, openSync, statSync } from 'node:fs';
import { BuildError, errno, invalidArgument } from '../base/errors.ts';
import { parseBool } from '../base/flags.ts';
import { csvPairs } from '../client/csv.ts';
import { streamSink } from '../client/file-sink.ts';
import type { ExportEntry, FileSink } from '../client/solve-types.ts';

/** One `--output` (FEATURES L6). A destination file is created at once, so that a wrong path fails before the build. */
export function parseOutput(text: string, stdout: { readonly isTTY?: boolean }): ExportEntry {
  let type = '';
  const attrs: Record<string, string> = {};
  for (const [key, value] of csvPairs(text, (f) => `invalid value ${f}`)) {
    if (key === 'type') type = value;
    else attrs[key] = value;
  }
  if (type === '') throw invalidArgument('--output requires type=<type>');
  if (attrs.output !== undefined)
    throw invalidArgument(
      `output=${attrs.output} not supported for --output, you meant dest=${attrs.output}?`,
    );
  const { dest = '', ...rest } = attrs;
  const archive = type === 'oci' || type === 'docker';
  if (type === 'local' || (archive && parseBool(attrs.tar ?? '') === false)) {
    if (dest === '') throw wrong(`output directory is required for ${type} exporter`);
    return { type, attrs: rest, outputDir: dest };
  }
  if (archive || type === 'tar') return { type, attrs: rest, output: fileOutput(type, dest, stdout) };
  if (dest !== '') throw wrong(`output ${dest} is not supported by ${type} exporter`);
  return { type, attrs };
}

function wrong(text: string): BuildError {
  return invalidArgument(`invalid output option: output: ${text}`);
}

function fileOutput(
  type: string,
  dest: string,
  stdout: { readonly isTTY?: boolean },
): () => Promise<FileSink> {
  if (dest === '' || dest === '-') {
    if (stdout.isTTY)
      throw wrong(`output file is required for ${type} exporter. refusing to write to console`);
    return async () => streamSink(process.stdout, false);
  }
  if (statSync(dest, { throwIfNoEntry: false })?.isDirectory())
    throw wrong('destination file is a directory');
  try {
    closeSync(openSync(dest, 'w', 0o666));
  } catch (error) {
    const why = errno(error) === 'ENOENT' ? 'no such file or directory' : BuildError.from(error).message;
    throw wrong(`open ${dest}: ${why}`);
  }
  return async () => streamSink(createWriteStream(dest), true);
}
