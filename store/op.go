package store

import (
	"time"

	"mssd/trace"
)

// Batch is one write, a value: all its operations happen, or none.
type Batch struct {
	Ops []Op
	// Events are written in the same commit. The store gives Seq, Time where it is zero, and, where Mailbox is
	// set and UIDs is empty, the UIDs that the operations on this mailbox touched (for Moved and Copied also the
	// attributes to and to_uids). A Flagged, Moved, Copied or Expunged event of which nothing came is left out. ID 0 takes
	// that of Blob, where there is one.
	Events []trace.Event
	Once   *Once // nil: the batch is not guarded against repetition
	Blob   *Blob // the body stored by this batch; nil none
	// Blobs are bodies beside Blob, which is the first then; AddMessage names each by its ID, as the events about it do.
	Blobs []*Blob
}

// bodies are all bodies of the batch, the first one first.
func (b *Batch) bodies() []*Blob {
	if b.Blob == nil {
		return b.Blobs
	}
	return append([]*Blob{b.Blob}, b.Blobs...)
}

// body is the new body that an operation adds; nil: it is one that is stored already.
func (b *Batch) body(op AddMessage) *Blob {
	if b.Blob != nil && (op.Message == 0 || op.Message == b.Blob.id) {
		return b.Blob
	}
	for _, x := range b.Blobs {
		if x.id == op.Message {
			return x
		}
	}
	return nil
}

// Once guards a delivery whose 250 the peer may not have seen: a batch with the same key within 5 days stores
// nothing and yields the first ID (Result.Duplicate), until Confirm.
type Once struct {
	Key [32]byte // hash of the peer's DN, sender, recipients and the blob's hash
	// In, when set, is the mailbox that must still hold the message, or each of the messages, that the first batch added
	// to it; else this batch is stored. Result.Ops says where each is. They are looked for among the last 10,000 messages.
	In Ref
}

// Op is one operation of a batch.
type Op interface{ isOp() }

type (
	// PutBAL creates a BAL (Create: ErrBALExists where it is) or sets State, Listing, Structure and quotas of the
	// one with this Address. A new BAL gets INBOX, Drafts, Sent, Trash, Archive and Junk, all subscribed.
	PutBAL struct {
		BAL    BAL // ID, Created, Octets and Messages are the store's
		Create bool
		// AfterRestore says that nobody else had this address after the backup that the store was restored from. Without it none
		// is given there (ErrRestored) before AddressesSettled.
		AfterRestore bool
	}
	// SetBALState sets the state.
	SetBALState struct {
		Address Address
		State   State
	}
	// SetListing sets the listing; the directory itself is told by others.
	SetListing struct {
		Address Address
		Listing Listing
	}
	// SetQuota sets the limits of a BAL; 0 is no limit, nil leaves one as it is.
	SetQuota struct {
		Address          Address
		Octets, Messages *int64
	}
	// PutMember adds a member to a BAL, or replaces it.
	PutMember struct {
		Address Address
		Member  Member
	}
	// EndMember ends a membership; the record of it stays.
	EndMember struct {
		Address Address
		Member  string // Member.ID
	}
	// CreateMailbox creates a mailbox and the missing parents (RFC 9051, Section 6.3.4).
	CreateMailbox struct {
		BAL        BALID
		Name       string
		SpecialUse string
	}
	// DeleteMailbox removes a mailbox and expunges its messages. Mailboxes below it stay; the name is then \NonExistent
	// (RFC 9051, Section 6.3.5). INBOX cannot be deleted. More than MaxExpunge messages are too many for one commit
	// (ErrLimit): Store.DeleteMailbox takes them away before.
	DeleteMailbox struct{ Ref Ref }
	// RenameMailbox renames a mailbox and those below it; missing parents of the new name are created. INBOX
	// stays and gives its messages to the new mailbox (RFC 9051, Section 6.3.6).
	RenameMailbox struct {
		Ref Ref
		To  string
	}
	// RenameTree renames the mailboxes below a name that does not exist itself (\NonExistent).
	RenameTree struct {
		BAL      BALID
		From, To string
	}
	// Subscribe adds a name to the subscriptions, or takes it away. The name need not exist.
	Subscribe struct {
		BAL  BALID
		Name string
		On   bool
	}
	// AddMessage puts a message into a mailbox.
	AddMessage struct {
		Ref      Ref
		Message  MessageID // 0: that of Batch.Blob
		Prefix   []byte    // at most MaxPrefix octets; the same for each row of this BAL and message
		Flags    Flag
		Keywords []string
		Date     time.Time // internal date; zero: now
		Size     int64     // prefix and blob; 0: the store counts, another wrong value is ErrInvalid
		// Delivery: accepted at RCPT, so the quota may be overrun.
		Delivery bool
		// ExpectUIDValidity, when not 0, must be that of the mailbox.
		ExpectUIDValidity UIDValidity
	}
	// StoreFlags changes flags and keywords of the messages that exist among Runs.
	StoreFlags struct {
		Ref      Ref
		Runs     []Run
		Mode     Mode
		Flags    Flag
		Keywords []string
		// UnchangedSince counts when Conditional: messages with a greater ModSeq are left alone and
		// reported in Modified (RFC 7162, Section 3.1.3).
		Conditional    bool
		UnchangedSince ModSeq
	}
	// Copy copies the messages that exist among Runs.
	Copy struct {
		From Ref
		Runs []Run
		To   Ref
		All  bool // ErrNoMessage unless every one of Runs exists
	}
	// Move moves the messages that exist among Runs (RFC 6851). A BAL that they leave can have them back for some time (Undelete).
	Move struct {
		From Ref
		Runs []Run
		To   Ref
	}
	// Expunge removes those messages among Runs that have \Deleted, or all. At most 5000 go, and 50000 are looked at:
	// OpResult.Rest is what is left to be looked at (Store.Expunge goes on with it). They can come back for some time
	// (Undelete).
	Expunge struct {
		Ref  Ref
		Runs []Run
		All  bool
		Each bool // with All: ErrNoMessage unless every one of Runs exists
	}
)

func (PutBAL) isOp()        {}
func (SetBALState) isOp()   {}
func (SetQuota) isOp()      {}
func (SetListing) isOp()    {}
func (PutMember) isOp()     {}
func (EndMember) isOp()     {}
func (CreateMailbox) isOp() {}
func (DeleteMailbox) isOp() {}
func (RenameMailbox) isOp() {}
func (RenameTree) isOp()    {}
func (Subscribe) isOp()     {}
func (AddMessage) isOp()    {}
func (StoreFlags) isOp()    {}
func (Copy) isOp()          {}
func (Move) isOp()          {}
func (Expunge) isOp()       {}

// Mode says what StoreFlags does with its flags.
type Mode uint8

// Add is "+FLAGS", Remove "-FLAGS", Replace "FLAGS".
const (
	Add Mode = iota + 1
	Remove
	Replace
)

// Result is what a batch did.
type Result struct {
	ID        trace.ID // of the (first) blob, or of the first delivery when Duplicate; 0 without a blob
	Duplicate bool     // Once matched: nothing was stored
	Ops       []OpResult
}

// OpResult is what one operation did.
type OpResult struct {
	BAL         BALID       // PutBAL
	Ref         Ref         // CreateMailbox, RenameMailbox, AddMessage; Copy and Move: the target
	UIDs        []Run       // existing messages acted upon, ascending (Copy, Move: in From)
	New         []Run       // UIDs given (AddMessage, Copy, Move), in the order of UIDs
	UIDValidity UIDValidity // of Ref
	ModSeq      ModSeq      // HIGHESTMODSEQ of the changed mailbox (Move: of From) after the operation
	Modified    []Run       // StoreFlags: left alone because of UnchangedSince
	Rows        []Row       // StoreFlags: the messages of UIDs as they are now, ascending
	Rest        []Run       // Expunge: not looked at yet
	Undeleted   []Undeleted // Undelete: what came back, by former mailbox and UID

	touched []Run // what really changed, for the trace
	purged  int
	wiped   []MessageID // wipeBAL: which the BAL has no more
}

// Bounds of what a batch may bring.
const (
	MaxPrefix   = 4 << 10 // octets of a prefix
	MaxName     = 1000    // octets of a mailbox name
	MaxDepth    = 50      // levels of a mailbox name
	MaxMailbox  = 10000   // mailboxes of a BAL
	MaxKeywords = 100     // keywords in one mailbox
	maxKeyword  = 100     // octets of a keyword
	maxSubs     = 20000   // subscriptions of a BAL
	maxText     = 1000    // octets of an address, an identifier
	maxHash     = 1000    // octets of a password hash
)
