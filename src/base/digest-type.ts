/** Content name, `sha256:<64 hex>` (or `sha512:`; cache keys that must not be kept use `random:`). */
export type Digest = string & { readonly __digest: true };
