// BuildKit, runc and containerd from their repositories, cloned by a step. Files go from tree to tree by `cp`.
import { bind, image, type State } from 'buildkit-ts/llb';
import { flags, goBase, write } from './common.ts';

const options = flags({ 'with-containerd': 'true', containerd: 'v1.7.2', runc: 'v1.1.7' });
const base = goBase('apk add --no-cache g++ linux-headers', 'apk add --no-cache git libseccomp-dev make');

/** The repository in `state`, which works in it from then on. */
function clone(state: State, repository: string): State {
  const dir = `/go/src/${repository}`;
  return state.run(`git clone https://${repository}.git ${dir}`).dir(dir);
}

function copy(from: State, file: string, to: State): State {
  const mounts = { '/src': bind(from), '/dest': bind(to) };
  return image('docker.io/library/alpine:latest')
    .run(`cp -a /src${file} /dest/bin/`, { mounts })
    .output('/dest');
}

const buildkit = clone(base, 'github.com/moby/buildkit');
const runc = clone(base, 'github.com/opencontainers/runc')
  .run(`git checkout -q ${options.runc}`)
  .run('go build -o /usr/bin/runc ./');
const containerd = clone(base.run('apk add --no-cache btrfs-progs-dev'), 'github.com/containerd/containerd')
  .run(`git checkout -q ${options.containerd}`)
  .run('make bin/containerd');

let result: State = image('docker.io/library/alpine:latest');
result = copy(buildkit.run('go build -o /bin/buildctl ./cmd/buildctl'), '/bin/buildctl', result);
result = copy(runc, '/usr/bin/runc', result);
result = copy(buildkit.run('go build -o /bin/buildkitd ./cmd/buildkitd'), '/bin/buildkitd', result);
if (options['with-containerd'] === 'true')
  result = copy(containerd, '/go/src/github.com/containerd/containerd/bin/containerd', result);

await write(result.run('ls -l /bin'), { platform: 'linux/amd64' });
