import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { BuildError, Code } from '../base/errors.ts';
import type { Definition } from '../llb/ops.ts';
import { ENABLED_CAPS } from '../llb/caps.ts';
import { parsePlatform } from '../oci/platform.ts';
import { buildDockerfile } from './dockerfile.ts';

/** Broken files, and files with options that make no sense, with the message of BuildKit v0.32 and the lines it shows, innermost place first. */
type Golden = readonly (readonly [
  file: string,
  message: string,
  lines: readonly (readonly number[])[],
  options?: Readonly<Record<string, string>>,
])[];

const golden = JSON.parse(
  readFileSync(new URL('../../test/golden/errors.json', import.meta.url), 'utf8'),
) as Golden;

const config = (ref: string): Buffer =>
  Buffer.from(
    JSON.stringify({
      architecture: 'amd64',
      os: 'linux',
      config: {
        Env: ['PATH=/bin'],
        ...(ref.includes('obfail') ? { OnBuild: ['RUN --mount=type=bad x'] } : {}),
      },
      rootfs: { type: 'layers', diff_ids: [`sha256:${'2'.repeat(64)}`] },
    }),
  );

async function failure(file: string, options: Readonly<Record<string, string>>): Promise<BuildError> {
  const readFile = async (path: string): Promise<Uint8Array> => {
    if (path !== 'Dockerfile') throw new BuildError(`open ${path}: no such file or directory`);
    return Buffer.from(file);
  };
  const outcome = await buildDockerfile<Definition>({
    options: new Map(Object.entries({ ...options, cmdline: 'no look at syntax directives' })),
    sessionId: 'session',
    workerPlatforms: [parsePlatform('linux/amd64')],
    caps: new Set(ENABLED_CAPS),
    inputs: {},
    signal: new AbortController().signal,
    solve: async (definition) => ({ value: definition, readFile, newestIn: async () => undefined }),
    resolveImage: async (ref) => {
      if (ref.includes('does-not-exist')) throw new BuildError(`${ref}: not found`);
      return { ref, digest: '', config: config(ref) };
    },
    resolveLayout: async () => assert.fail('no layouts here'),
    describeSource: async (source) => ({ source }),
    served: ['docker.io/docker/dockerfile'],
    runFrontend: () => Promise.reject(new Error('no other frontend')),
    warn: () => undefined,
  }).catch((error: unknown) => error);
  assert.ok(outcome instanceof BuildError, `${JSON.stringify(file)} does not fail as it should`);
  return outcome;
}

interface SourceValue {
  readonly ranges: readonly { readonly start: { readonly line?: number } }[];
}

test('broken files fail with the words, the lines and the code of BuildKit', async () => {
  assert.ok(golden.length > 300);
  for (const [file, message, lines, options = {}] of golden) {
    const label = `${file}${JSON.stringify(options)}`;
    const error = await failure(file, options);
    assert.equal(error.message, message, label);
    const sources = error.details.flatMap((detail) =>
      'type' in detail && detail.type === 'errdefs.Source' ? [detail.value as SourceValue] : [],
    );
    const shown = sources.map(({ ranges }) => ranges.map(({ start }) => start.line ?? 0));
    assert.deepEqual(shown, lines, label);
    assert.equal(error.code, Code.unknown, label);
  }
});
