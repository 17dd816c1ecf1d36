import { digestAlgorithm, Digester } from '../base/digest.ts';
import { BuildError, Code } from '../base/errors.ts';
import type { Descriptor } from '../oci/descriptor.ts';

/** `content`, with an error at its end when it was not what the descriptor says. */
export async function* withDigestCheck(
  content: AsyncIterable<Uint8Array>,
  { digest, size }: Descriptor,
): AsyncGenerator<Uint8Array> {
  const digester = new Digester(digestAlgorithm(digest));
  let length = 0;
  for await (const chunk of content) {
    length += chunk.length;
    digester.update(chunk);
    yield chunk;
  }
  const actual = digester.digest();
  if (length !== size || actual !== digest)
    throw new BuildError(`content of ${digest} (${size} bytes) is ${actual} (${length} bytes)`, {
      code: Code.failedPrecondition,
    });
}
