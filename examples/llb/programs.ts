// BuildKit, runc and containerd, each a tree with one program. Sources are mounted read-only, from git or, for the
// version `local`, from folders of the client (`buildkit-src`, `runc-src`, `containerd-src`).
import { bind, type GitOptions, git, local, scratch, type State } from 'buildkit-ts/llb';
import { goBase } from './common.ts';

export interface Versions {
  readonly buildkit: string;
  readonly containerd: string;
  readonly runc: string;
}

const base = goBase('apk add --no-cache g++ linux-headers libseccomp-dev make');

function source(repository: string, folder: string, version: string, options: GitOptions = {}): State {
  return version === 'local' ? local(folder) : git(repository, { ...options, ref: version });
}

function build(state: State, repository: string, from: State, command: string): State {
  const dir = `/go/src/${repository}`;
  const mounts = { [dir]: bind(from, { readonly: true }), '/out': bind(scratch()) };
  return state.dir(dir).run(command, { mounts }).output('/out');
}

export function buildkit(program: 'buildctl' | 'buildkitd', { buildkit: version }: Versions): State {
  const repository = 'github.com/moby/buildkit';
  const from = source(repository, 'buildkit-src', version);
  return build(base, repository, from, `go build -o /out/${program} ./cmd/${program}`);
}

export function runc({ runc: version }: Versions): State {
  const repository = 'github.com/opencontainers/runc';
  return build(base, repository, source(repository, 'runc-src', version), 'go build -o /out/runc ./');
}

export function containerd({ containerd: version }: Versions): State {
  const repository = 'github.com/containerd/containerd/v2/client';
  const from = source(repository, 'containerd-src', version, { keepGitDir: true });
  const tools = base.run('apk add --no-cache btrfs-progs-dev');
  return build(tools, repository, from, 'go build -o /out/containerd ./cmd/containerd');
}
