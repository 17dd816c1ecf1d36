import { createRequire } from 'node:module';

/** Loaded by the first file that needs it: most daemons see none, and start sooner. */
function library(): typeof import('yaml') {
  return typeof require === 'function' ? require('yaml') : createRequire(import.meta.url)('yaml');
}

/** A file of YAML 1.1, of which JSON is a part. Dates stay the text they are. @throws with line and column */
export function parseYaml(text: string): unknown {
  return library().parse(text, {
    version: '1.1',
    logLevel: 'error',
    customTags: (tags) =>
      tags.filter((tag) => typeof tag === 'string' || tag.tag !== 'tag:yaml.org,2002:timestamp'),
  });
}
