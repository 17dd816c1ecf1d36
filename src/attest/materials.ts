import { type Digest, isDigest } from '../base/digest.ts';
import { type Capture, digestSet, type GitMaterial } from './capture.ts';
import { imagePurl } from './purl.ts';
import { commitDigest, type DigestSet } from './request.ts';

/** Something that went into a build. */
export interface Material {
  readonly uri: string;
  readonly digest: DigestSet;
}

/** In the order of FEATURES J38. Local folders are none: nobody else can look at them. */
export function materialsOf(capture: Capture): Material[] {
  return [
    ...capture.images.map(({ ref, platform, digest, local }) => ({
      uri: imagePurl(local ? 'oci' : 'docker', ref, { platform }),
      digest: digestSet(digest),
    })),
    ...capture.blobs.map(({ ref, digest, local }) => ({
      uri: imagePurl(local ? 'oci' : 'docker', ref, { qualifiers: { ref_type: 'blob' } }),
      digest: digestSet(digest),
    })),
    ...capture.git.flatMap((git) => [
      { uri: git.url, digest: commitDigest(git.commit) },
      ...bundleMaterial(git),
    ]),
    ...capture.http.map(({ url, digest }) => ({ uri: url, digest: digestSet(digest) })),
  ];
}

const BUNDLE = /^([^:]+):\/\/(.+)@([^@]+)$/;

function bundleMaterial({ url, bundle = '' }: GitMaterial): Material[] {
  const [, scheme, ref = '', digest = ''] = BUNDLE.exec(bundle) ?? [];
  if (!isDigest(digest)) return [];
  const type = scheme === 'oci-layout+blob' ? 'oci' : 'docker';
  const qualifiers = { ref_type: 'bundle', vcs_url: url };
  return [{ uri: imagePurl(type, ref, { qualifiers }), digest: digestSet(digest as Digest) }];
}
