// Package backup keeps copies of a store in a directory on another disk, and brings a store back from there.
//
// Run takes a moment of a store, over the operator's socket while the daemon serves or from a store that it opens
// alone, copies what the directory does not hold yet, reads it back, and writes down what the moment is made of. Verify,
// Prune and Restore work on the directory alone.
//
// The directory holds: BACKUP (format and id), blobs/ (sealed bodies as they lie in the store, shared by all
// generations), incoming/ (bodies that are not read back yet), generations/ with a directory for each moment: index.db,
// keys, VERSION, bodies (which ones it needs, with size and SHA-256) and manifest (docs/format.md).
//
// Invariants:
//  1. A file under blobs/ was synced, read back from the disk and found equal to what the store sent before it got its
//     name. It is never written again; one that is found damaged is replaced as a whole.
//  2. A generation has its name, without ".partial", only when all of it was synced and read back and its manifest
//     stands. What a run leaves that was broken off belongs to no generation, and the next run removes or uses it.
//  3. The manifest is signed (HMAC-SHA256) with a key of the store; sums of all other files follow from it.
//  4. A body is removed only when no generation names it, and never while one of them cannot be read.
//
// It does not keep the master key, the configuration, the white list or the directory's image: these are other files'
// backups.
//
// Security: who has the directory and the master key reads all mail; without the master key, what docs/format.md says
// of a store. Who can write to the directory can destroy it, but not forge it: other octets are found out by Verify, and
// a forged manifest by whoever has the master key (Restore always). Each backup is registered in the store, so that the
// mail of a destroyed BAL is not called shredded while a backup still opens it.
package backup
