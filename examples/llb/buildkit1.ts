// The same programs; what states have in common are functions from state to state, given to `with`.
import { bind, image, type State } from 'buildkit-ts/llb';
import { flags, goBase, write } from './common.ts';

type Change = (state: State) => State;

const alpine = image('docker.io/library/alpine:latest');
const options = flags({ 'with-containerd': 'true', containerd: 'v1.7.2', runc: 'v1.1.7' });
const base = goBase('apk add --no-cache g++ linux-headers', 'apk add --no-cache git libseccomp-dev make');

/** `COPY --from` by a program in another image. */
function copyFrom(from: State, path: string, to: string): Change {
  return (state) => {
    const mounts = { '/src': bind(from), '/dest': bind(state) };
    return alpine.run(`cp -a /src${path} /dest${to}`, { mounts }).output('/dest');
  };
}

/** A repository at a commit, cloned elsewhere. The state keeps its settings, and works in the repository. */
function goFromGit(repository: string, commit: string): Change {
  const source = alpine
    .run('apk add --no-cache git')
    .run(`git clone https://${repository}.git /go/src/${repository}`)
    .dir(`/go/src/${repository}`)
    .run(`git checkout -q ${commit}`);
  return (state) =>
    state
      .with(copyFrom(source, '/go', '/'))
      .reset(state)
      .async(async (copied) => copied.dir((await source.settings()).dir));
}

const buildkit = base.with(goFromGit('github.com/moby/buildkit', 'master'));
const runc = base
  .with(goFromGit('github.com/opencontainers/runc', options.runc))
  .run('go build -o /usr/bin/runc ./');
const containerd = base
  .run('apk add --no-cache btrfs-progs-dev')
  .with(goFromGit('github.com/containerd/containerd/v2/client', options.containerd))
  .run('make bin/containerd');

let result = alpine.with(
  copyFrom(buildkit.run('go build -o /bin/buildctl ./cmd/buildctl'), '/bin/buildctl', '/bin/'),
  copyFrom(buildkit.run('go build -o /bin/buildkitd ./cmd/buildkitd'), '/bin/buildkitd', '/bin/'),
  copyFrom(runc, '/usr/bin/runc', '/bin/'),
);
if (options['with-containerd'] === 'true')
  result = result.with(
    copyFrom(containerd, '/go/src/github.com/containerd/containerd/bin/containerd', '/bin/'),
  );

await write(result.run('ls -l /bin'), { platform: 'linux/amd64' });
