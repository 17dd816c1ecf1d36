/// <reference lib="esnext.disposable" preserve="true" />
/**
 * Shows the progress of builds as `buildctl` does: on a terminal, as plain text, as JSON.
 *
 *     import { showProgress } from 'buildkit-ts/progress';
 *
 *     const build = client.solve({ frontend: 'dockerfile.v0', locals });
 *     await showProgress(build.progress);
 *     const { digest } = await build;
 *
 * What is exported here keeps its meaning within a major version. docs/sdk.md tells more.
 */
export { mergeProgress } from './merge.ts';
export { openProgress, showProgress } from './show.ts';
export type { ProgressMode, ProgressOutput, ProgressText, ProgressView, ShowOptions } from './show-types.ts';
