// A graph that a step of the build writes, solved as a part of the same build.
import { bind, git, image, scratch } from 'buildkit-ts/llb';
import { goBase, write } from './common.ts';

const PROGRAM =
  'https://gist.githubusercontent.com/tonistiigi/03b4049f8cc3de059bd2a1a1d8643714/raw/b5960995d570d8c6d94db527e805edc6d5854268/buildprs.go';
const REPOSITORY = 'github.com/moby/buildkit';

const written = goBase(
  'apk add --no-cache g++ linux-headers make',
  'apk add --no-cache curl',
  `curl -o /buildprs.go "${PROGRAM}"`,
).run('sh -c "go run /buildprs.go > /out/buildkit.llb.definition"', {
  mounts: { [`/go/src/${REPOSITORY}`]: bind(git(REPOSITORY, { ref: 'master' })), '/out': bind(scratch()) },
});

const listed = image('docker.io/library/alpine:latest').run('ls -l /out', {
  mounts: { '/out': bind(written.output('/out').build(), { readonly: true }) },
});
await write(listed, { platform: 'linux/amd64' });
