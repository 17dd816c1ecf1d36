// A build where no daemon runs: one of this package is started for it, and ends with the program. Needs Linux and root.
// The files are in memory, the image becomes an archive that `docker load` reads.
//
//     node examples/sdk/no-daemon.ts hello.tar
import { readFileSync } from 'node:fs';
import { BuildError, Code, connect } from 'buildkit-ts/client';
import { showProgress } from 'buildkit-ts/progress';

const [dest = 'hello.tar'] = process.argv.slice(2);
const busybox = readFileSync('/bin/busybox');

try {
  await using client = await connect({ onNotice: console.error });
  const build = client.solve({
    frontend: 'dockerfile.v0',
    locals: {
      context: { files: { busybox: { content: busybox, mode: 0o755 }, greeting: 'hello, world\n' } },
      dockerfile: {
        files: {
          Dockerfile: `
FROM scratch
COPY busybox /bin/sh
COPY greeting /
RUN while read -r line; do echo "$line!"; done < /greeting > /louder
CMD ["/bin/sh", "-c", "while read -r line; do echo $line; done < /louder"]
`,
        },
      },
    },
    exports: [{ type: 'docker', name: 'hello:latest', dest }],
  });
  await showProgress(build.progress);
  console.log((await build).digest);
} catch (error) {
  if (!(error instanceof BuildError) || error.code !== Code.unavailable) throw error;
  console.error(`${error.message}\nhint: ${error.hint}`);
  process.exitCode = 1;
}
