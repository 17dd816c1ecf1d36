// Makes an image of frontend.ts and pushes it.
//
//     node examples/sdk/frontend/image.ts localhost:5000/appfile:1 [IMAGE WITH NODE]
import { connect } from 'buildkit-ts/client';
import { showProgress } from 'buildkit-ts/progress';

const [name = 'localhost:5000/appfile:1', node = 'node:24-slim'] = process.argv.slice(2);
const here = import.meta.dirname;

await using client = await connect();
const build = client.solve({
  frontend: 'dockerfile.v0',
  frontendOptions: { 'build-arg:NODE': node, 'context:package': 'local:package' },
  // The package: in your project, node_modules/buildkit-ts.
  locals: { context: here, dockerfile: here, package: `${here}/../../..` },
  exports: [{ type: 'image', name, push: true }],
});
await showProgress(build.progress);
console.log((await build).digest);
