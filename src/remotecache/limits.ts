/** Manifest or config of a cache that is imported, bytes. */
export const MAX_CACHE_BLOB_BYTES = 1 << 20;

/** Config of a cache in an object store, bytes; it says of the layers what elsewhere the manifest says. */
export const MAX_OBJECT_CONFIG_BYTES = 16 << 20;
