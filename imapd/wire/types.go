package wire

import (
	"errors"
	"time"
)

// Flag is a set of system flags (RFC 9051, Section 2.3.2).
type Flag uint8

// The system flags. Recent is only ever printed: a client cannot set it.
const (
	Seen Flag = 1 << iota
	Answered
	Flagged
	Deleted
	Draft
	Recent
)

// Flags is a flag list as a client gave it: system flags, and keywords once each (compared without case).
type Flags struct {
	System   Flag
	Keywords []string
}

// Bounds of keywords.
const (
	MaxKeywords   = 64 // in one list
	MaxKeywordLen = 64 // octets
)

// Range is the numbers from First to Last, as written: 0 stands for "*", and First may be the larger.
type Range struct {
	First, Last uint32
}

// Set is a sequence set or UID set as written. It is never expanded.
type Set struct {
	Ranges []Range
	Saved  bool // "$" (RFC 5182); Ranges is empty
}

// Login is the arguments of LOGIN. Never log one.
type Login struct {
	User, Password string
}

// Authenticate is the arguments of AUTHENTICATE (RFC 4959 for the initial response). Never log one.
type Authenticate struct {
	Mechanism  string // upper case
	Initial    []byte // decoded; empty for "="
	HasInitial bool
}

// Select is the arguments of SELECT and EXAMINE.
type Select struct {
	Mailbox   string
	CondStore bool // (CONDSTORE), RFC 7162, Section 3.1.8
	QResync   *QResync
}

// QResync is what a client knows of the mailbox that it opens again (RFC 7162, Section 3.2.5). No set holds "*" or "$".
type QResync struct {
	UIDValidity uint32
	ModSeq      uint64
	Known       Set // UIDs; empty: all
	// MatchSeqs and MatchUIDs name as many messages, in the same order, by number and by UID; empty: none given.
	MatchSeqs, MatchUIDs Set
}

// Create is the arguments of CREATE.
type Create struct {
	Mailbox string
	Uses    []string // `\Sent`, as written (RFC 6154, Section 3)
}

// Rights is the arguments of MYRIGHTS, GETACL (Mailbox), LISTRIGHTS and DELETEACL (and Identifier), SETACL (and Rights;
// RFC 4314).
type Rights struct {
	Mailbox, Identifier, Rights string
}

// List is the arguments of LIST and LSUB (RFC 9051, Section 6.3.9; RFC 5258, RFC 5819, RFC 6154).
type List struct {
	Reference string
	Patterns  []string // at least one; UTF-8
	Extended  bool     // selection options, return options or a pattern list were given

	SelectSubscribed, SelectRemote, SelectRecursive, SelectSpecialUse bool
	ReturnSubscribed, ReturnChildren, ReturnSpecialUse                bool
	ReturnMyRights                                                    bool         // RFC 8440
	ReturnMetadata                                                    []string     // entries (RFC 9590)
	ReturnStatus                                                      []StatusItem // empty: none asked for
}

// StatusItem is one STATUS data item, in upper case.
type StatusItem string

// The STATUS items.
const (
	StatusMessages      StatusItem = "MESSAGES"
	StatusRecent        StatusItem = "RECENT"
	StatusUIDNext       StatusItem = "UIDNEXT"
	StatusUIDValidity   StatusItem = "UIDVALIDITY"
	StatusUnseen        StatusItem = "UNSEEN"
	StatusDeleted       StatusItem = "DELETED"       // RFC 9051
	StatusSize          StatusItem = "SIZE"          // RFC 8438
	StatusHighestModSeq StatusItem = "HIGHESTMODSEQ" // RFC 7162
	StatusAppendLimit   StatusItem = "APPENDLIMIT"   // RFC 7889
	StatusMailboxID     StatusItem = "MAILBOXID"     // RFC 8474
	// StatusDeletedStorage is RFC 9208, Section 4.1.4.
	StatusDeletedStorage StatusItem = "DELETED-STORAGE"
)

// Status is the arguments of STATUS.
type Status struct {
	Mailbox string
	Items   []StatusItem // at least one, each once, in the order asked for
}

// Append is the arguments of APPEND but for the message.
type Append struct {
	Replace Set // of REPLACE: one message (RFC 8508)
	Mailbox string
	Flags   Flags
	Date    time.Time // zero when not given
	UTF8    bool      // the message stands in UTF8 (...) (RFC 6855, Section 4)
}

// FetchKind is what a fetch item asks for.
type FetchKind uint8

// The kinds of fetch items.
const (
	FetchUID FetchKind = iota + 1
	FetchFlags
	FetchInternalDate
	FetchSize // RFC822.SIZE
	FetchEnvelope
	FetchBodyStructure
	FetchBody    // BODY without section: the structure without extension data
	FetchSection // BODY[…], BODY.PEEK[…], RFC822, RFC822.HEADER, RFC822.TEXT
	FetchModSeq
	FetchSaveDate   // RFC 8514
	FetchPreview    // RFC 8970
	FetchBinary     // BINARY[…] and BINARY.PEEK[…], RFC 3516
	FetchBinarySize // BINARY.SIZE[…]
	FetchEmailID    // RFC 8474
	FetchThreadID
)

// SectionPart is which octets of a part a section names.
type SectionPart uint8

// The texts of a section (RFC 9051, Section 6.4.5.1).
const (
	SectionAll SectionPart = iota // the whole message, or the body of a part
	SectionHeader
	SectionHeaderFields
	SectionHeaderFieldsNot
	SectionText
	SectionMIME // only with a part number
)

// Section names a piece of a message.
type Section struct {
	Part   []int // part numbers, each >= 1; empty for the message itself
	Text   SectionPart
	Fields []string // for SectionHeaderFields and SectionHeaderFieldsNot, at least one
}

// Partial is the octets asked for of a section.
type Partial struct {
	Offset, Size int64 // Size > 0
}

// FetchItem is one data item asked for.
type FetchItem struct {
	Kind    FetchKind
	Label   string  // the name to answer under: "RFC822.TEXT", "BODY[1.2]<0>"
	Section Section // for FetchSection; RFC822 and its kin are given as the section they mean
	Peek    bool    // for FetchSection: \Seen is not to be set
	Partial *Partial
}

// Fetch is the arguments of FETCH and UID FETCH. Macros are expanded; an item asked for twice stands once. UID
// FETCH does not add the item FetchUID.
type Fetch struct {
	UID             bool
	Set             Set
	Items           []FetchItem
	ChangedSince    uint64 // RFC 7162, Section 3.1.4.1
	HasChangedSince bool
	Vanished        bool // RFC 7162, Section 3.2.6; only with UID and HasChangedSince
	Partial         Window
	HasPartial      bool // RFC 9394, Section 3.3; only with UID
}

// StoreMode is how STORE changes flags.
type StoreMode uint8

// The modes of STORE.
const (
	StoreReplace StoreMode = iota
	StoreAdd
	StoreRemove
)

// Store is the arguments of STORE and UID STORE.
type Store struct {
	UID               bool
	Set               Set
	Mode              StoreMode
	Silent            bool
	Flags             Flags
	UnchangedSince    uint64 // RFC 7162, Section 3.1.3
	HasUnchangedSince bool
}

// Copy is the arguments of COPY and MOVE.
type Copy struct {
	UID     bool
	Set     Set
	Mailbox string
}

// KeyOp is what a search key asks.
type KeyOp uint8

// The search keys. Those not here are told by the others: UNSEEN is NOT SEEN, NEW is (RECENT UNSEEN), OLD is
// NOT RECENT, FROM is HEADER FROM.
const (
	KeyAll     KeyOp = iota + 1
	KeyAnd           // Keys, all of them
	KeyOr            // one of Keys, two or more
	KeyNot           // Keys, one
	KeySeq           // Set
	KeyUID           // Set
	KeyFlag          // Flag is set
	KeyKeyword       // Text, a keyword
	KeyHeader        // Field (upper case) contains Text; an empty Text asks only for the field
	KeyBody          // Text
	KeyText          // Text, anywhere in header or body
	KeyBefore        // internal date < Date
	KeyOn
	KeySince
	KeySentBefore // date of the Date field
	KeySentOn
	KeySentSince
	KeyLarger  // Number
	KeySmaller // Number
	KeyModSeq  // Number (RFC 7162, Section 3.1.5)
	KeyOlder   // Number, seconds (RFC 5032)
	KeyYounger // Number, seconds
	KeySavedBefore
	KeySavedOn // RFC 8514
	KeySavedSince
	KeyEmailID  // Text (RFC 8474)
	KeyThreadID // Text
)

// Key is one search key, or a tree of them.
type Key struct {
	Op     KeyOp
	Keys   []Key
	Set    Set
	Flag   Flag
	Field  string
	Text   string    // UTF-8
	Date   time.Time // a day: midnight UTC
	Number uint64
}

// SearchReturn is the result options of an extended SEARCH (RFC 4731, RFC 5182).
type SearchReturn uint8

// The result options. RETURN () reads as ReturnAll.
const (
	ReturnMin SearchReturn = 1 << iota
	ReturnMax
	ReturnAll
	ReturnCount
	ReturnSave
	ReturnPartial // RFC 9394; the range is in Search.Partial
)

// Window is a part of a result, by places counted from 1: from the beginning, or with FromEnd from the end backwards
// (RFC 9394, Section 3.1). First <= Last.
type Window struct {
	First, Last uint32
	FromEnd     bool
	Label       string // as the client wrote it, for the answer
}

// Search is the arguments of SEARCH and UID SEARCH.
type Search struct {
	UID      bool
	Extended bool // RETURN was given: answer ESEARCH
	Return   SearchReturn
	Partial  Window
	Key      Key  // KeyAnd at its root
	ModSeq   bool // a MODSEQ key stands in it somewhere
}

// SortField is what SORT compares (RFC 5256, Section 3; RFC 5957, Section 3).
type SortField uint8

// The criteria of SORT.
const (
	SortArrival SortField = iota + 1
	SortCc
	SortDate
	SortFrom
	SortSize
	SortSubject
	SortTo
	SortDisplayFrom
	SortDisplayTo
)

// SortKey is one criterion.
type SortKey struct {
	Field   SortField
	Reverse bool
}

// Sort is the arguments of SORT and UID SORT.
type Sort struct {
	Search
	By []SortKey // at least one
}

// Thread is the arguments of THREAD and UID THREAD.
type Thread struct {
	UID       bool
	Algorithm string // "ORDEREDSUBJECT" or "REFERENCES"
	Key       Key
	ModSeq    bool
}

// ErrBadCharset is a SEARCH in a charset other than US-ASCII and UTF-8: answer
// NO [BADCHARSET (US-ASCII UTF-8)] (RFC 9051, Section 6.4.4).
var ErrBadCharset = errors.New("wire: charset not supported")

// IDField is one pair of an ID command (RFC 2971).
type IDField struct {
	Name, Value string
	Nil         bool // the value was NIL
}
