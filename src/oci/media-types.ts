/** Media types of manifests, configs and layers, and the tables between their OCI and Docker forms (FEATURES F9). */
export const mediaTypeOciManifest = 'application/vnd.oci.image.manifest.v1+json';
export const mediaTypeOciIndex = 'application/vnd.oci.image.index.v1+json';
export const mediaTypeOciConfig = 'application/vnd.oci.image.config.v1+json';
export const mediaTypeOciEmpty = 'application/vnd.oci.empty.v1+json';
export const mediaTypeDockerManifest = 'application/vnd.docker.distribution.manifest.v2+json';
export const mediaTypeDockerList = 'application/vnd.docker.distribution.manifest.list.v2+json';
export const mediaTypeDockerConfig = 'application/vnd.docker.container.image.v1+json';
export const mediaTypeDockerSchema1 = 'application/vnd.docker.distribution.manifest.v1+prettyjws';
export const mediaTypeInToto = 'application/vnd.in-toto+json';
export const mediaTypeCacheConfig = 'application/vnd.buildkit.cacheconfig.v0';

const OCI_LAYER = 'application/vnd.oci.image.layer.v1.tar';
const OCI_FOREIGN = 'application/vnd.oci.image.layer.nondistributable.v1.tar';
const DOCKER_LAYER = 'application/vnd.docker.image.rootfs.diff.tar';
const DOCKER_FOREIGN = 'application/vnd.docker.image.rootfs.foreign.diff.tar';

export type LayerCompression = 'uncompressed' | 'gzip' | 'zstd';
export const layerCompressions: readonly LayerCompression[] = ['uncompressed', 'gzip', 'zstd'];

export interface LayerForm {
  readonly compression: LayerCompression;
  /** OCI or Docker names. */
  readonly oci: boolean;
  /** Registries may refuse to hand it on; its bytes come from `urls`. */
  readonly foreign: boolean;
}

function layerMediaType(form: LayerForm): string {
  const base = form.oci
    ? form.foreign
      ? OCI_FOREIGN
      : OCI_LAYER
    : form.foreign
      ? DOCKER_FOREIGN
      : DOCKER_LAYER;
  return form.compression === 'uncompressed' ? base : `${base}${form.oci ? '+' : '.'}${form.compression}`;
}

const FORMS = new Map<string, LayerForm>();
for (const oci of [true, false])
  for (const foreign of [false, true])
    for (const compression of layerCompressions) {
      const form = { compression, oci, foreign };
      FORMS.set(layerMediaType(form), form);
    }
// An old name that some builders wrote.
FORMS.set(`${OCI_LAYER}.gzip`, { compression: 'gzip', oci: true, foreign: false });
FORMS.set(`${DOCKER_LAYER}+gzip`, { compression: 'gzip', oci: false, foreign: false });

/** What a layer's media type says; undefined for a type that is none of a layer's. */
export function layerForm(mediaType: string): LayerForm | undefined {
  return FORMS.get(mediaType);
}

/** Name of a plain layer of this compression. */
export function newLayerMediaType(compression: LayerCompression, oci = true): string {
  return layerMediaType({ compression, oci, foreign: false });
}

/** The same kind of layer under the other family's name; a type nobody knows stays. */
export function convertLayerMediaType(mediaType: string, oci: boolean): string {
  const form = FORMS.get(mediaType);
  return form ? layerMediaType({ ...form, oci }) : mediaType;
}

/** The plain layer type of a non-distributable one; others stay. */
export function distributableMediaType(mediaType: string): string {
  const form = FORMS.get(mediaType);
  return form ? layerMediaType({ ...form, foreign: false }) : mediaType;
}

export function isForeignLayer(mediaType: string): boolean {
  return FORMS.get(mediaType)?.foreign ?? false;
}

export function isManifestType(mediaType: string): boolean {
  return mediaType === mediaTypeOciManifest || mediaType === mediaTypeDockerManifest;
}

export function isIndexType(mediaType: string): boolean {
  return mediaType === mediaTypeOciIndex || mediaType === mediaTypeDockerList;
}

export function isConfigType(mediaType: string): boolean {
  return mediaType === mediaTypeOciConfig || mediaType === mediaTypeDockerConfig;
}
