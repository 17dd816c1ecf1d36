import * as types from '../oci/media-types.ts';

/** Media types of manifests, indexes, configs and new layers, OCI's and Docker's. */
export const mediaTypes = {
  ociManifest: types.mediaTypeOciManifest,
  ociIndex: types.mediaTypeOciIndex,
  ociConfig: types.mediaTypeOciConfig,
  ociLayer: 'application/vnd.oci.image.layer.v1.tar',
  ociLayerGzip: 'application/vnd.oci.image.layer.v1.tar+gzip',
  ociLayerZstd: 'application/vnd.oci.image.layer.v1.tar+zstd',
  dockerManifest: types.mediaTypeDockerManifest,
  dockerList: types.mediaTypeDockerList,
  dockerConfig: types.mediaTypeDockerConfig,
  dockerLayerGzip: 'application/vnd.docker.image.rootfs.diff.tar.gzip',
} as const;
