import type { Capture } from '../attest/capture.ts';
import { isDigest } from '../base/digest.ts';
import { BuildError } from '../base/errors.ts';
import type { Platform } from '../oci/platform.ts';
import { formatReference } from '../oci/reference.ts';
import { blobSpec } from './blob.ts';
import { gitSourceSpec } from './git-spec.ts';
import { imageSourceSpec } from './image-spec.ts';
import { parseLocalSource } from './local.ts';
import { ociLayoutSpec } from './oci-layout.ts';

/** A source of a graph. */
export interface CapturedSource {
  readonly identifier: string;
  readonly attrs: Readonly<Record<string, string>>;
}

/** Tells `capture` of a source that has resolved to `pin`. @throws BuildError for a pin that is none */
export function captureSource(
  capture: Capture,
  { identifier, attrs }: CapturedSource,
  platform: Platform,
  pin: string,
): void {
  const at = identifier.indexOf('://');
  const scheme = identifier.slice(0, at);
  const rest = identifier.slice(at + 3);
  const digest = () => {
    if (isDigest(pin)) return pin;
    throw new BuildError(`failed to parse digest ${pin} of ${identifier}`);
  };
  switch (scheme) {
    case 'docker-image': {
      const spec = imageSourceSpec(rest, attrs, platform);
      const ref = formatReference(spec.reference);
      capture.addImage({ ref, platform: spec.platform, digest: digest(), local: false });
      return;
    }
    case 'oci-layout': {
      const spec = ociLayoutSpec(rest, attrs, platform);
      const ref = spec.reference.text;
      capture.addImage({ ref, platform: spec.platform, digest: digest(), local: true });
      return;
    }
    case 'docker-image+blob':
    case 'oci-layout+blob': {
      const { reference } = blobSpec(scheme, rest, attrs);
      capture.addBlob({ ref: reference.text, digest: digest(), local: scheme === 'oci-layout+blob' });
      return;
    }
    case 'local':
      capture.addLocal(parseLocalSource(rest, attrs).name);
      return;
    case 'http':
    case 'https':
      capture.addHttp({ url: identifier, digest: digest() });
      return;
    case 'git':
      captureGit(capture, rest, attrs, pin);
      return;
    default:
      capture.incomplete = true; // a kind that materials have no form for
  }
}

function captureGit(
  capture: Capture,
  rest: string,
  attrs: Readonly<Record<string, string>>,
  pin: string,
): void {
  const spec = gitSourceSpec(rest, attrs);
  const url = spec.ref === '' ? spec.remote : `${spec.remote}#${spec.ref}`;
  const bundle = attrs['git.bundle'];
  capture.addGit({ url, commit: pin, ...(bundle ? { bundle } : {}) });
  for (const id of [spec.authTokenSecret, spec.authHeaderSecret])
    if (id !== '') capture.addSecret({ id, optional: true });
  if (spec.mountSshSock !== '') capture.addSsh({ id: spec.mountSshSock, optional: true });
}
