import type { Capture } from '../attest/capture.ts';
import { BuildError } from '../base/errors.ts';

/** What is told when a build must name all it was made of and can not (FEATURES J35). */
export function incompleteMaterials({ locals }: Capture): BuildError {
  const text = [
    'provenance materials are incomplete',
    'The build requested complete provenance materials, but not all dependencies could be captured.',
  ];
  if (locals.length > 0) {
    const items = locals.map((name) => `\n  - ${name || '<unnamed>'}\n    reason: local_source`);
    text.push(`Uncaptured local sources:${items.join('')}`);
  }
  const incomplete = locals.map((name) => ({ ...(name ? { name } : {}), reason: 'local_source' }));
  return new BuildError(text.join('\n\n')).with({
    type: 'errdefs.ProvenanceMaterialsIncomplete',
    value: incomplete.length > 0 ? { incomplete } : {},
  });
}
