import type { ImageResolver, ResolvedImage } from 'buildkit-ts/dockerfile';

/**
 * Image configs from a JSON file: an object with a member for each image, named by its full reference, which a blank
 * and a platform may follow.
 *
 *     {
 *       "docker.io/library/alpine:latest": { "digest": "sha256:…", "config": { "os": "linux", … } },
 *       "docker.io/library/alpine:latest linux/arm64": { … }
 *     }
 */
export function fromFile(json: string): ImageResolver {
  const images = new Map(Object.entries(JSON.parse(json) as Record<string, ResolvedImage>));
  return (reference, { platform }) => {
    const image = images.get(`${reference} ${platform}`) ?? images.get(reference);
    if (image?.config === undefined) throw new Error(`no config for ${platform} in the file of images`);
    return image;
  };
}
