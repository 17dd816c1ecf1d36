import { once } from 'node:events';
import type { Writable } from 'node:stream';
import { BuildError } from '../base/errors.ts';
import type { FileSink } from '../session/host/filesend.ts';
import type { NodeWritable } from './types.ts';

/** A sink over a Node stream; `ends` closes it with the last byte. */
export function streamSink(target: NodeWritable, ends: boolean): FileSink {
  const stream = target as Writable;
  let failure: Error | undefined;
  const onError = (error: Error): void => {
    failure ??= error;
  };
  stream.on('error', onError);
  const check = (): void => {
    if (failure) throw BuildError.from(failure);
  };
  return {
    write: async (chunk) => {
      check();
      if (!stream.write(chunk)) await once(stream, 'drain');
      check();
    },
    close: async () => {
      if (ends) await new Promise<void>((resolve, reject) => stream.end(resolve).once('error', reject));
      stream.off('error', onError);
      check();
    },
    abort: async () => {
      if (ends) stream.destroy();
    },
  };
}
