import { createWriteStream } from 'node:fs';
import { BuildError, invalidArgument } from '../../base/errors.ts';
import { systemErrorText } from '../../sys/errno.ts';
import { streamSink } from '../file-sink.ts';
import type { ExportEntry } from '../solve-types.ts';
import type { NodeWritable } from '../types.ts';
import type { Export, ExportAttrs, FileSink, FileTarget } from './types.ts';

/** An export as the client's own request has it. @throws BuildError for an unknown type, or a place that does not fit */
export function exportEntry(entry: Export): ExportEntry {
  const attrs = textAttrs(entry.attrs ?? {});
  switch (entry.type) {
    case 'image':
      return {
        type: entry.type,
        attrs: { ...attrs, ...nameAttr(entry.name), ...(entry.push ? { push: 'true' } : {}) },
      };
    case 'oci':
    case 'docker': {
      const all = { ...attrs, ...nameAttr(entry.name) };
      if ((entry.dir === undefined) === (entry.dest === undefined))
        throw invalidArgument(`an export of type ${entry.type} needs either dest or dir`);
      return entry.dest === undefined
        ? { type: entry.type, attrs: { ...all, tar: 'false' }, outputDir: entry.dir! }
        : { type: entry.type, attrs: all, output: opener(entry.dest) };
    }
    case 'tar':
      return { type: entry.type, attrs, output: opener(entry.dest) };
    case 'local':
      return {
        type: entry.type,
        attrs: { ...attrs, ...(entry.mode ? { mode: entry.mode } : {}) },
        outputDir: entry.dir,
      };
    default:
      throw invalidArgument(
        `unknown type of export ${JSON.stringify((entry as { type: unknown }).type)}: image, oci, docker, tar and local are known`,
      );
  }
}

function textAttrs(attrs: ExportAttrs): Record<string, string> {
  return Object.fromEntries(Object.entries(attrs).map(([key, value]) => [key, String(value)]));
}

function nameAttr(name: string | readonly string[] | undefined): { readonly name?: string } {
  if (name === undefined) return {};
  return { name: typeof name === 'string' ? name : name.join(',') };
}

function opener(target: FileTarget): NonNullable<ExportEntry['output']> {
  if (typeof target === 'function') return target;
  if (typeof target === 'string')
    return async () => named(target, streamSink(createWriteStream(target), true));
  if ('getWriter' in target) return async () => webSink(target);
  return async () => streamSink(target as NodeWritable, true);
}

/** Errors of a file say which file it was. */
function named(path: string, sink: FileSink): FileSink {
  const failed = (error: unknown): never => {
    const cause = error instanceof BuildError ? error.cause : error;
    throw new BuildError(`failed to write ${path}: ${systemErrorText(cause)}`, { cause });
  };
  return {
    write: (chunk) => sink.write(chunk).catch(failed),
    close: () => sink.close().catch(failed),
    abort: (reason) => sink.abort(reason),
  };
}

function webSink(stream: WritableStream<Uint8Array>): FileSink {
  const writer = stream.getWriter();
  return {
    write: (chunk) => writer.write(chunk),
    close: () => writer.close(),
    abort: (reason) => writer.abort(reason),
  };
}
