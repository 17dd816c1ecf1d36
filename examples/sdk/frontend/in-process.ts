// Runs the frontend of frontend.ts in this process: no image of it is needed, and it can be debugged.
//
//     node examples/sdk/frontend/in-process.ts FOLDER app.tar
import { connect } from 'buildkit-ts/client';
import { showProgress } from 'buildkit-ts/progress';
import { appfile } from './frontend.ts';

const [folder = '.', dest = 'app.tar'] = process.argv.slice(2);

await using client = await connect();
const build = client.build(appfile, {
  locals: { context: folder, dockerfile: folder },
  exports: [{ type: 'oci', dest }],
});
await showProgress(build.progress);
await build;
