// The same programs in an empty tree, copied by file actions: no image but the one that builds is needed.
import { copy, scratch, type State } from 'buildkit-ts/llb';
import { flags, write } from './common.ts';
import { buildkit, containerd, runc } from './programs.ts';

const options = flags({
  'with-containerd': 'true',
  containerd: 'v1.7.2',
  runc: 'v1.1.7',
  buildkit: 'master',
});
const programs = [buildkit('buildctl', options), buildkit('buildkitd', options), runc(options)];
if (options['with-containerd'] === 'true') programs.push(containerd(options));

const result = programs.reduce<State>(
  (to, from) =>
    to.file(copy(from, '/.', '/', { allowWildcard: true, attemptUnpack: true, createDestPath: true })),
  scratch(),
);
await write(result, { platform: 'linux/amd64' });
