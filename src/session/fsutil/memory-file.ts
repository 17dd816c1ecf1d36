/** A file that exists in memory only. Modes are permission bits, as chmod takes them. */
export type MemoryFile =
  | string
  | Uint8Array
  | { readonly content: string | Uint8Array; readonly mode?: number; readonly modTime?: Date }
  | { readonly symlink: string }
  | { readonly directory: true; readonly mode?: number; readonly modTime?: Date };
