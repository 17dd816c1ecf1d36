// Builds the Dockerfile of a folder with a secret, shows the progress, pushes the image.
//
//     TOKEN=… node examples/sdk/dockerfile.ts FOLDER registry.example/app:latest
import { connect } from 'buildkit-ts/client';
import { showProgress } from 'buildkit-ts/progress';

const [folder = '.', name = 'localhost:5000/app:latest'] = process.argv.slice(2);

await using client = await connect();
const build = client.solve({
  frontend: 'dockerfile.v0',
  locals: { context: folder, dockerfile: folder },
  secrets: { token: { env: 'TOKEN' } },
  exports: [{ type: 'image', name, push: true }],
});
await showProgress(build.progress);
const { digest } = await build;
console.log(`${name}@${digest}`);
