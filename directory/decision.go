package directory

import (
	"fmt"
	"strings"
	"time"
)

// Query asks about a recipient.
type Query struct {
	Address   string
	Kind      string // "PER", "ORG", "APP", "CAB"; "" is not compared
	Structure string // number of the structure, "FINESS:…" or bare; "" is not compared
	Listing   string // "published" or "unlisted"; anything else is taken as published
	Sender    Class  // zero: Operator
}

// Class is who sends, as far as the policy is concerned.
type Class uint8

// Operator: anybody else's BAL. Patient: the patient platform. Member: a BAL of ours.
const (
	Operator Class = iota
	Patient
	Member
)

var classNames = [...]string{Operator: "operator", Patient: "patient", Member: "member"}

func (c Class) String() string {
	if int(c) >= len(classNames) {
		return fmt.Sprintf("unknown-class(%d)", c)
	}
	return classNames[c]
}

// Answer is what the directory says of an address.
type Answer uint8

// KnownOther: there, but with another type or structure. CannotTell: no image, too old, or the live question failed.
const (
	Known Answer = iota + 1
	KnownOther
	Unknown
	CannotTell
)

var answerNames = [...]string{Known: "known", KnownOther: "known-other", Unknown: "unknown", CannotTell: "cannot-tell"}

func (a Answer) String() string {
	if a == 0 || int(a) >= len(answerNames) {
		return fmt.Sprintf("unknown-answer(%d)", a)
	}
	return answerNames[a]
}

// Action is what is done with the recipient. The zero value stands for the default of its cell.
type Action uint8

// AcceptNote leaves a note in the trace, AcceptAlert also calls for someone to look.
const (
	Accept Action = iota + 1
	AcceptNote
	AcceptAlert
	Refuse550
	Defer450
	Defer451
)

var actionNames = [...]string{Accept: "accept", AcceptNote: "note", AcceptAlert: "alert", Refuse550: "refuse",
	Defer450: "defer450", Defer451: "defer"}

func (a Action) String() string {
	if a == 0 || int(a) >= len(actionNames) {
		return fmt.Sprintf("unknown-action(%d)", a)
	}
	return actionNames[a]
}

// ParseAction reads the word of an action: accept, note, alert, refuse, defer (451) or defer450. "" is the zero Action.
func ParseAction(s string) (Action, error) {
	if s == "" {
		return 0, nil
	}
	for i, n := range actionNames {
		if n != "" && strings.EqualFold(n, s) {
			return Action(i), nil
		}
	}
	return 0, fmt.Errorf("directory: %q is no action (one of %s)", s, strings.Join(actionNames[1:], ", "))
}

// accepts reports whether the action lets the recipient in.
func (a Action) accepts() bool { return a == Accept || a == AcceptNote || a == AcceptAlert }

// Row is the part of the policy for one listing.
type Row struct{ Known, KnownOther, Unknown, CannotTell Action }

// Rows is the policy for each listing. A zero cell is not set.
type Rows struct{ Published, Unlisted Row }

// Policy says what is done for each sender, listing and answer. A cell of the sender's class comes first, then the one for
// everybody, then the default of the class and that for everybody.
type Policy struct {
	Rows                      // whoever sends
	Operator, Patient, Member Rows
}

// DefaultPolicy refuses only a published BAL that the directory does not know, and that not to our own members: they know
// the BAL from us, and what is wrong then is its publication, which is ours to mend.
func DefaultPolicy() Policy {
	return Policy{
		Rows: Rows{
			Published: Row{Known: Accept, KnownOther: AcceptAlert, Unknown: Refuse550, CannotTell: AcceptNote},
			Unlisted:  Row{Known: Accept, KnownOther: AcceptNote, Unknown: Accept, CannotTell: Accept},
		},
		Member: Rows{Published: Row{Unknown: AcceptAlert}},
	}
}

// Action is the cell for a sender, a listing and an answer.
func (p *Policy) Action(from Class, listing string, a Answer) Action {
	def := &defaultPolicy
	for _, r := range [...]*Rows{p.class(from), &p.Rows, def.class(from), &def.Rows} {
		if set := r.row(listing).cell(a); set != 0 {
			return set
		}
	}
	return AcceptNote // there is no such cell
}

var defaultPolicy = DefaultPolicy()

func (p *Policy) class(c Class) *Rows {
	switch c {
	case Patient:
		return &p.Patient
	case Member:
		return &p.Member
	}
	return &p.Operator
}

func (r *Rows) row(listing string) Row {
	if strings.EqualFold(listing, "unlisted") {
		return r.Unlisted
	}
	return r.Published
}

func (r Row) cell(a Answer) Action {
	switch a {
	case Known:
		return r.Known
	case KnownOther:
		return r.KnownOther
	case Unknown:
		return r.Unknown
	}
	return r.CannotTell
}

// Decision is an answer, what follows from it, and where it comes from.
type Decision struct {
	Answer     Answer
	Action     Action
	Sender     Class
	Source     string        // what the answer rests on: "ldap", "extraction", "ldap-live"; "" nothing
	Generation uint64        // of the image
	Age        time.Duration // of the image; 0 for a live answer
	Live       bool          // the LDAP server itself was asked, with or without success
	Note       string        // why, for the trace; fixed words
}

// Entry is one row of the directory.
type Entry struct {
	Address       string // lower case
	Kind          string // "PER", "ORG", "APP", "CAB"
	StructureType string // "FINESS", "SIREN", "SIRET", "ADELI", "RPPS" or as the feed has it; "" none
	StructureID   string
	PersonType    string // "0" ADELI, "8" RPPS; "" none
	PersonID      string
	Profession    string // code
}

// structureTypes are the digits of TRE_G07 and the words that LDAP has for them.
var structureTypes = map[string]string{"0": "ADELI", "1": "FINESS", "2": "SIREN", "3": "SIRET", "4": "RPPS"}

func structureType(s string) string {
	if w, ok := structureTypes[s]; ok {
		return w
	}
	return strings.ToUpper(s)
}

const noteType = "type differs"

// match gathers what the rows of an address say to a query.
type match struct {
	rows  int
	known bool
	note  string // why it is not known as we know it
}

// take looks at one row. A row without a structure contradicts none. It does not allocate.
func (m *match) take(q *Query, r row) {
	f := r.fields()
	m.rows++
	switch {
	case q.Kind != "" && !equalFold(q.Kind, f[fieldKind]):
		if m.note == "" {
			m.note = noteType
		}
	case q.Structure == "" || len(f[fieldStructureID]) == 0 || sameStructure(q.Structure, f[fieldStructureType], f[fieldStructureID]):
		m.known = true
	default:
		m.note = "structure differs"
	}
}

func (m *match) answer() (Answer, string) {
	switch {
	case m.known:
		return Known, ""
	case m.rows > 0:
		return KnownOther, m.note
	}
	return Unknown, ""
}

// compare tells Known from KnownOther, and why.
func compare(q Query, rows []Entry) (Answer, string) {
	var m match
	for _, e := range rows {
		f := record{[]byte(e.Address), []byte(e.Kind), []byte(e.StructureType), []byte(e.StructureID)}
		m.take(&q, row{appendCore(nil, nil, &f)})
	}
	return m.answer()
}

// sameStructure compares the structure of our BAL ("FINESS:…" or a bare number) with that of a row.
func sameStructure(ours string, kind, id []byte) bool {
	if k, n, ok := strings.Cut(ours, ":"); ok {
		if len(kind) > 0 && !equalFold(k, kind) {
			return false
		}
		ours = n
	}
	return equalFold(strings.TrimSpace(ours), id)
}

// equalFold compares without regard to the case of ASCII letters, and without allocating.
func equalFold(s string, b []byte) bool {
	if len(s) != len(b) {
		return false
	}
	for i := range b {
		c, d := s[i], b[i]
		if 'A' <= c && c <= 'Z' {
			c |= 0x20
		}
		if 'A' <= d && d <= 'Z' {
			d |= 0x20
		}
		if c != d {
			return false
		}
	}
	return true
}
