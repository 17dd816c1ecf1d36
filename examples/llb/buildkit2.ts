// The same programs; repositories are git sources that are mounted, and the results are mounts as well.
import { bind, type GitOptions, git, image, scratch, type State } from 'buildkit-ts/llb';
import { flags, goBase, write } from './common.ts';

const alpine = image('docker.io/library/alpine:latest');
const options = flags({ 'with-containerd': 'true', containerd: 'v1.7.2', runc: 'v1.1.7' });
const base = goBase('apk add --no-cache g++ linux-headers libseccomp-dev make');

/** The folder `bin` of a repository after `command`. */
function build(state: State, repository: string, source: GitOptions, command: string): State {
  const dir = `/go/src/${repository}`;
  const bin = `${dir}/bin`;
  const mounts = { [dir]: bind(git(repository, source)), [bin]: bind(scratch()) };
  return state.dir(dir).run(command, { mounts }).output(bin);
}

function copyAll(from: State, to: State): State {
  const mounts = { '/src': bind(from), '/dest': bind(to) };
  return alpine.run('cp -a /src/. /dest/bin', { mounts }).output('/dest');
}

const buildkit = (program: string): State =>
  build(base, 'github.com/moby/buildkit', { ref: 'master' }, `go build -o ./bin/${program} ./cmd/${program}`);
const results = [
  buildkit('buildctl'),
  buildkit('buildkitd'),
  build(base, 'github.com/opencontainers/runc', { ref: options.runc }, 'go build -o ./bin/runc ./'),
];
if (options['with-containerd'] === 'true')
  results.push(
    build(
      base.run('apk add --no-cache btrfs-progs-dev'),
      'github.com/containerd/containerd/v2/client',
      { ref: options.containerd, keepGitDir: true },
      'make bin/containerd',
    ),
  );

const result = results.reduce((to, from) => copyAll(from, to), alpine as State);
await write(result.run('ls -l /bin'), { platform: 'linux/amd64' });
