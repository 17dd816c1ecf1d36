/**
 * Images in registries and layout folders: read, make, check, push, pull and copy them, without a daemon.
 *
 *     import { copyImage, dockerLogins, Layout, RegistryClient } from 'buildkit-ts/oci';
 *
 *     const registry = new RegistryClient({ login: dockerLogins() });
 *     await copyImage(registry.image('alpine:3.20'), new Layout('images').image('3.20'));
 *     await registry.close();
 *
 * What is exported here keeps its meaning within a major version. docs/oci-library.md tells more.
 */
export type { Digest } from '../base/digest.ts';
export { digestOf } from '../base/digest.ts';
export type { Descriptor } from '../oci/descriptor.ts';
export type { ImageIndex, Manifest } from '../oci/manifest.ts';
export { encodeManifest, parseManifest } from '../oci/manifest.ts';
export type { Platform } from '../oci/platform.ts';
export { formatPlatform, parsePlatform } from '../oci/platform.ts';
export type { ImageReference } from '../oci/reference.ts';
export { formatReference, normalizeReference, parseReference } from '../oci/reference.ts';
export type { KeyPairPaths, ProxyConfig, RegistryConfig } from '../registry/config.ts';
export type {
  BlobContent,
  CheckedAttestations,
  CheckedImage,
  CheckOptions,
  ImageReport,
  Statement,
} from './check.ts';
export { checkImage, validateImage } from './check.ts';
export type { Copied, CopyOptions } from './copy.ts';
export { copyImage } from './copy.ts';
export { Layout } from './layout.ts';
export type { CallOptions, ImageLocation, OpenBlob, WriteResult } from './location.ts';
export { dockerLogins } from './logins.ts';
export { mediaTypes } from './media-types.ts';
export type { Image, ImageConfigFile, PlatformOptions } from './read.ts';
export { isNotFound, readImage } from './read.ts';
export type { Login, LoginProvider, RegistryClientOptions } from './registry-client.ts';
export { RegistryClient } from './registry-client.ts';
