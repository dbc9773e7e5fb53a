package store

import "errors"

// What can go wrong. Errors carry the operation around these; test with errors.Is.
var (
	ErrNoStore       = errors.New("store: no store in this directory")
	ErrVersion       = errors.New("store: unknown format version")
	ErrMasterKey     = errors.New("store: master key")
	ErrRecoveryKey   = errors.New("store: recovery key")
	ErrLocked        = errors.New("store: another process has this store open")
	ErrClosed        = errors.New("store: closed")
	ErrFailed        = errors.New("store: failed; the state on disk is unknown until the next start")
	ErrNoSpace       = errors.New("store: no space left on the disk")
	ErrNoBAL         = errors.New("store: no such BAL")
	ErrUnavailable   = errors.New("store: what is kept of this BAL is damaged, it cannot be used until that is mended")
	ErrBALExists     = errors.New("store: BAL exists")
	ErrBALFixed      = errors.New("store: address and kind of a BAL never change")
	ErrNoMember      = errors.New("store: no such member")
	ErrNoMailbox     = errors.New("store: no such mailbox")
	ErrMailboxExists = errors.New("store: mailbox exists")
	ErrName          = errors.New("store: bad mailbox name")
	ErrKeyword       = errors.New("store: bad keyword")
	ErrLimit         = errors.New("store: limit reached")
	ErrNoMessage     = errors.New("store: no such message")
	ErrOverQuota     = errors.New("store: over quota")
	ErrUIDValidity   = errors.New("store: UIDVALIDITY is another one")
	ErrMissing       = errors.New("store: body is missing")
	ErrCorrupt       = errors.New("store: damaged data")
	ErrHeld          = errors.New("store: BAL is under legal hold")
	ErrNoBackup      = errors.New("store: no such backup")
	ErrInvalid       = errors.New("store: invalid operation")
)
