/** Tables of blobs, snapshots and leases. Times are Unix milliseconds, flags 0 or 1, labels JSON objects. */
export const STORE_SCHEMA: readonly string[] = [
  `
CREATE TABLE blobs (
  digest TEXT PRIMARY KEY, size INTEGER NOT NULL,
  created_at INTEGER NOT NULL, updated_at INTEGER NOT NULL, labels TEXT NOT NULL
) WITHOUT ROWID;
-- What the gc labels of a blob keep.
CREATE TABLE blob_edges (
  digest TEXT NOT NULL, kind TEXT NOT NULL, target TEXT NOT NULL, PRIMARY KEY (digest, kind, target)
) WITHOUT ROWID;
CREATE INDEX blob_edges_target ON blob_edges (kind, target);
CREATE TABLE snapshots (
  id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE, kind TEXT NOT NULL, parent INTEGER,
  created_at INTEGER NOT NULL, size INTEGER, inodes INTEGER
);
CREATE INDEX snapshots_parent ON snapshots (parent) WHERE parent IS NOT NULL;
CREATE TABLE leases (
  id TEXT PRIMARY KEY, created_at INTEGER NOT NULL, expires_at INTEGER,
  flat INTEGER NOT NULL, temporary INTEGER NOT NULL, labels TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX leases_expiry ON leases (expires_at) WHERE expires_at IS NOT NULL;
CREATE INDEX leases_temporary ON leases (temporary) WHERE temporary = 1;
CREATE TABLE lease_resources (
  lease TEXT NOT NULL, kind TEXT NOT NULL, id TEXT NOT NULL, PRIMARY KEY (lease, kind, id)
) WITHOUT ROWID;
CREATE INDEX lease_resources_id ON lease_resources (kind, id);
-- What lost a lease or a reference and may be garbage.
CREATE TABLE gc_queue (kind TEXT NOT NULL, id TEXT NOT NULL, PRIMARY KEY (kind, id)) WITHOUT ROWID;
-- Paths below the state directory that must go unless a row says otherwise: the journal of file operations.
CREATE TABLE doomed (path TEXT PRIMARY KEY) WITHOUT ROWID;
`,
];
