package store

import (
	"fmt"
	"log/slog"
	"strings"
	"time"

	"mssd/trace"
)

// Address is the address of a BAL: the whole address in lower case. It names a professional or a structure,
// never a patient, and may be logged.
type Address string

// Domain is the part behind the last @.
func (a Address) Domain() string { return string(a[strings.LastIndexByte(string(a), '@')+1:]) }

type (
	BALID       uint32     // number of a BAL inside this store; 0 none
	MailboxID   uint32     // number of a mailbox inside this store, never used again; 0 none
	UID         uint32     // RFC 9051, Section 2.3.1.1; 0 none
	UIDValidity uint32     // RFC 9051, Section 2.3.1.1; never used again in this store
	ModSeq      uint64     // RFC 7162, Section 3.1; 0 none
	MessageID   = trace.ID // names a message and its blob
	KeywordSet  uint32     // an interned set of keywords; 0 is the empty set
)

// Ref names a mailbox.
type Ref struct {
	BAL     BALID
	Mailbox MailboxID
}

// Kind is the type of a BAL in the trust space.
type Kind uint8

// PER belongs to one person, ORG to a structure, APP to software, CAB to a practice (cabinet).
const (
	PER Kind = iota + 1
	ORG
	APP
	CAB
)

var kindNames = [...]string{PER: "PER", ORG: "ORG", APP: "APP", CAB: "CAB"}

func (k Kind) String() string { return name(kindNames[:], int(k)) }

// ParseKind reads a Kind in any case.
func ParseKind(s string) (Kind, error) { return parse[Kind](kindNames[:], s, "kind of BAL") }

// State says whether a BAL may be delivered to and read.
type State uint8

// Declared: known, not opened yet. Suspended: closed for a time. Closed: for good, as far as it is not opened again.
// Destroyed: its key is overwritten, what it held goes; record and address stay for ever.
const (
	Declared State = iota + 1
	Active
	Suspended
	Closed
	Destroyed
)

var stateNames = [...]string{Declared: "declared", Active: "active", Suspended: "suspended", Closed: "closed", Destroyed: "destroyed"}

func (s State) String() string { return name(stateNames[:], int(s)) }

// ParseState reads a State in any case.
func ParseState(s string) (State, error) { return parse[State](stateNames[:], s, "state of a BAL") }

// Listing says whether the BAL stands in the Annuaire Santé.
type Listing uint8

// Unlisted is the red list (liste rouge).
const (
	Published Listing = iota + 1
	Unlisted
)

var listingNames = [...]string{Published: "published", Unlisted: "unlisted"}

func (l Listing) String() string { return name(listingNames[:], int(l)) }

// ParseListing reads a Listing in any case.
func ParseListing(s string) (Listing, error) { return parse[Listing](listingNames[:], s, "listing") }

// Role is what a member may do with a BAL.
type Role uint8

// Owner may everything, Writer all but managing members, Reader may only read.
const (
	Owner Role = iota + 1
	Writer
	Reader
)

var roleNames = [...]string{Owner: "owner", Writer: "writer", Reader: "reader"}

func (r Role) String() string { return name(roleNames[:], int(r)) }

// ParseRole reads a Role in any case.
func ParseRole(s string) (Role, error) { return parse[Role](roleNames[:], s, "role") }

func name(names []string, i int) string {
	if i <= 0 || i >= len(names) {
		return fmt.Sprintf("unknown(%d)", i)
	}
	return names[i]
}

func parse[T ~uint8](names []string, s, what string) (T, error) {
	for i, n := range names {
		if n != "" && strings.EqualFold(n, s) {
			return T(i), nil
		}
	}
	return 0, fmt.Errorf("%q is no %s (one of %s)", s, what, strings.Join(names[1:], ", "))
}

// BAL (boîte aux lettres) is one MSSanté address and all it holds.
type BAL struct {
	ID            BALID
	Address       Address // never changes
	Kind          Kind    // never changes
	State         State
	Listing       Listing
	Structure     string // FINESS or other identifier of the structure; "" none
	Created       time.Time
	QuotaOctets   int64 // 0: no limit
	QuotaMessages int64 // 0: no limit
	Octets        int64 // counted by the store
	Messages      int64 // counted by the store
	// HeldSince is when the legal hold began, zero where there is none: while it lasts, nothing of the BAL is lost.
	HeldSince time.Time
	// Destroyed says how far the destruction of the BAL has come; zero where it was not destroyed.
	Destroyed Destruction
	Use       Use  // when it was last used; the store's
	Told      Told // what the Annuaire Santé was told of it; the store's
}

// Destruction says how far the destruction of a BAL has come. At, KeyGone and Wiped come in this order.
type Destruction struct {
	At      time.Time // of the decision, from which nothing leads back; zero: none
	KeyGone bool      // the slot of its key is overwritten: nothing of it can be opened in this store
	Wiped   bool      // no record of what it held is left
	Commit  uint64    // the commit that overwrote the slot; 0: not yet, or it was done before this was noted
}

// Held reports a legal hold.
func (b BAL) Held() bool { return !b.HeldSince.IsZero() }

// Full reports whether the quota leaves no room for a message of size octets.
func (b BAL) Full(size int64) bool {
	return b.QuotaOctets > 0 && b.Octets+size > b.QuotaOctets || b.QuotaMessages > 0 && b.Messages >= b.QuotaMessages
}

// Member is a person with a role on a BAL.
type Member struct {
	ID           string // "rpps:…", "adeli:…", "local:…"
	Role         Role
	From, Until  time.Time // zero: no bound
	PasswordHash string    // PHC string; "" no password
	Ended        bool
	SCRAM        string // verifier of the same password for SCRAM-SHA-256 (RFC 5803); "" none
}

// Active reports whether the membership is in force at t.
func (m Member) Active(t time.Time) bool {
	return !m.Ended && (m.From.IsZero() || !t.Before(m.From)) && (m.Until.IsZero() || t.Before(m.Until))
}

// LogValue hides the password hash.
func (m Member) LogValue() slog.Value {
	return slog.GroupValue(slog.String("id", m.ID), slog.String("role", m.Role.String()), slog.Bool("ended", m.Ended))
}

// String hides the password hash.
func (m Member) String() string { return m.ID + " " + m.Role.String() }

// GoString hides the password hash.
func (m Member) GoString() string { return "store.Member{" + m.String() + "}" }

// Mailbox is a mailbox in the sense of IMAP: INBOX, Sent, …
type Mailbox struct {
	Ref
	Name          string // UTF-8, "/" between levels
	SpecialUse    string // `\Sent` (RFC 6154); "" none
	UIDValidity   UIDValidity
	UIDNext       UID
	HighestModSeq ModSeq
	Messages      uint32
	Unseen        uint32
	Deleted       uint32
	Octets        int64
	RetentionDays uint32 // messages that came into it longer ago are expunged; 0 none
	// Created is false for a name that exists only as the parent of another one (\NonExistent, RFC 9051,
	// Section 7.3.1); its Ref has no Mailbox.
	Created bool
}

// Flag is a set of system flags (RFC 9051, Section 2.3.2).
type Flag uint16

// The system flags. \Recent is a matter of sessions, see Snapshot.
const (
	Seen Flag = 1 << iota
	Answered
	Flagged
	Deleted
	Draft
	allFlags Flag = 1<<iota - 1
)

// Row is one message in one mailbox.
type Row struct {
	UID      UID
	ModSeq   ModSeq
	Message  MessageID
	Flags    Flag
	Keywords KeywordSet
	Date     time.Time // internal date: seconds, UTC
	Size     int64     // octets of prefix and blob
	SaveDate time.Time // when it came into this mailbox (RFC 8514): seconds, UTC
}

// Run is a run of Count UIDs from First on.
type Run struct {
	First UID
	Count uint32
}

// Last is the last UID of the run.
func (r Run) Last() UID { return r.First + UID(r.Count) - 1 }

// Snapshot is a mailbox at one moment, for SELECT.
type Snapshot struct {
	Mailbox
	Runs        []Run // ascending; shared, never change it
	Recent      UID   // the first UID that no session was told of before
	FirstUnseen UID   // the first message without \Seen; 0 none
}

// Changes is what happened in a mailbox after a ModSeq.
type Changes struct {
	Mailbox Mailbox
	Rows    []Row // new or changed, ascending UID
	// Vanished holds the UIDs that went, ascending. Where the record of them no longer reaches back it holds
	// each UID below UIDNEXT that has no message, as RFC 7162, Section 3.2.6 allows.
	Vanished []Run
	Reset    bool // the mailbox is gone
}
