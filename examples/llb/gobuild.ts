// A small library for Go programs, and BuildKit, containerd and runc built with it.
import { bind, cache, git, image, local, scratch, shell, type State } from 'buildkit-ts/llb';
import { goBase, write } from './common.ts';

interface GoProgram {
  readonly source: State;
  /** Where the source is to be: `/go/src/<import path of the repository>`. */
  readonly mountPath: string;
  readonly package: string;
  readonly tags?: readonly string[];
  readonly cgo?: boolean;
}

const golang = goBase('apk add --no-cache g++ linux-headers libseccomp-dev');
const alpine = image(
  'docker.io/library/alpine@sha256:1072e499f3f655a032e88542330cf75b02e7bdf673278f701d7ba61629ee3ebe',
);

/** A tree with the program. Compiled packages stay for the next build; the source is not changed. */
function goBuild({ source, mountPath, package: name, tags = [], cgo = false }: GoProgram): State {
  return golang
    .env('CGO_ENABLED', cgo ? '1' : '0')
    .dir(mountPath)
    .run(shell(`go build -o /out/ -tags '${tags.join(',')}' ${name}`), {
      customName: `go build ${name}`,
      mounts: {
        [mountPath]: bind(source, { readonly: true }),
        '/root/.cache/go-build': cache('go-build'),
        '/out': bind(scratch()),
      },
    })
    .output('/out');
}

function copyAll(from: State): (to: State) => State {
  return (to) =>
    alpine
      .run('cp -a /src/. /dest/', { mounts: { '/src': bind(from, { readonly: true }), '/dest': bind(to) } })
      .output('/dest');
}

const buildctl = goBuild({
  source: local('src'),
  mountPath: '/go/src/github.com/moby/buildkit',
  package: 'github.com/moby/buildkit/cmd/buildctl',
});
const containerd = goBuild({
  source: git('github.com/containerd/containerd', { ref: 'v1.7.2' }),
  mountPath: '/go/src/github.com/containerd/containerd',
  package: 'github.com/containerd/containerd/cmd/containerd',
  tags: ['no_btrfs'],
});
const runc = goBuild({
  source: git('github.com/opencontainers/runc', { ref: 'main' }),
  mountPath: '/go/src/github.com/opencontainers/runc',
  package: 'github.com/opencontainers/runc',
  cgo: true,
});

await write(scratch().with(copyAll(buildctl), copyAll(containerd), copyAll(runc)), {
  platform: 'linux/amd64',
});
