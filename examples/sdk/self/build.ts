// Builds this project with its own SDK: the files of the npm package, into a folder.
//
//     node examples/sdk/self/build.ts FOLDER [IMAGE WITH NODE]
import { resolve } from 'node:path';
import { connect } from 'buildkit-ts/client';
import { showProgress } from 'buildkit-ts/progress';

const [dir = 'dist/self', node = 'node:24'] = process.argv.slice(2);
const project = resolve(import.meta.dirname, '../../..');

await using client = await connect();
const build = client.solve({
  frontend: 'dockerfile.v0',
  frontendOptions: { 'build-arg:NODE': node, 'context:modules': 'local:modules' },
  locals: {
    context: project,
    dockerfile: import.meta.dirname,
    modules: `${project}/node_modules`,
  },
  exports: [{ type: 'local', dir }],
});
await showProgress(build.progress);
await build;
