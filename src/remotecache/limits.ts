/** Manifest or config of a cache that is imported, bytes. */
export const MAX_CACHE_BLOB_BYTES = 1 << 20;
