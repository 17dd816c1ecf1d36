// The same programs, merged: a program that changes leaves the others' layers as they are.
import { posix } from 'node:path';
import { copy, merge, scratch, type State } from 'buildkit-ts/llb';
import { flags, write } from './common.ts';
import { buildkit, containerd, runc } from './programs.ts';

const options = flags({
  'with-containerd': 'true',
  containerd: 'v1.7.2',
  runc: 'v1.1.7',
  buildkit: 'master',
  prefix: '/usr/local/bin',
});

/** The tree below the prefix. */
function installed(state: State): State {
  const prefix = posix.join(options.prefix, '.').replace(/(.)\/$/, '$1');
  return prefix === '/' ? state : scratch().file(copy(state, '/', prefix, { createDestPath: true }));
}

const buildkitd = installed(buildkit('buildkitd', options));
const trees = [installed(buildkit('buildctl', options)), buildkitd, installed(runc(options))];
if (options['with-containerd'] === 'true') trees.push(installed(containerd(options)), buildkitd);

await write(merge(trees));
