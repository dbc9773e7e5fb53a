// Package crashtest explores what a power cut can leave of a directory that a real process wrote to. Only tests import it.
//
// A process runs under strace; Parse reads what it asked of the system, and a Disk is a model of a file system on which
// that is done again: the data of a file is durable only after an fsync or fdatasync of it, a name only after an fsync of
// its directory, both after syncfs. Replay stops at each boundary of a call and hands out States: what a disk may hold
// when the power goes at this moment. A State is written to a directory, where the real program opens it.
//
// The model is POSIX at its weakest, with three things taken for granted: a sector of 512 octets is written whole or not
// at all, what was synced stays, and a new name replaces an old one in one step. It gives no order: anything not synced
// may be there or not, each write and each name by itself, and a rename may show under both names or none.
//
// Same compares what the model holds at the end with what the process left on the real disk, so that a call which the
// model does not know cannot go unnoticed.
package crashtest
