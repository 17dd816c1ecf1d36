import { invalidArgument } from '../base/errors.ts';

/** A definition larger than this is refused, bytes; the daemon takes no larger message either. */
const MAX_DEFINITION_BYTES = 16 << 20;

/** Everything on the standard input. @throws BuildError when it is more than a definition can be. */
export async function readStdin(): Promise<Uint8Array> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of process.stdin) {
    chunks.push(chunk as Buffer);
    size += (chunk as Buffer).length;
    if (size > MAX_DEFINITION_BYTES)
      throw invalidArgument(
        `the definition on the standard input is larger than ${MAX_DEFINITION_BYTES} bytes`,
      );
  }
  return Buffer.concat(chunks);
}
