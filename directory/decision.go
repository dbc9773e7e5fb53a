package directory

import (
	"fmt"
	"strings"
	"time"
)

// Query asks about a BAL of ours.
type Query struct {
	Address   string
	Kind      string // "PER", "ORG", "APP", "CAB"; "" is not compared
	Structure string // number of the structure, "FINESS:…" or bare; "" is not compared
	Listing   string // "published" or "unlisted"; anything else is taken as published
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

// Policy says what is done for each listing and answer. A zero cell takes the value of DefaultPolicy.
type Policy struct{ Published, Unlisted Row }

// DefaultPolicy refuses only a published BAL that the directory does not know.
func DefaultPolicy() Policy {
	return Policy{
		Published: Row{Known: Accept, KnownOther: AcceptAlert, Unknown: Refuse550, CannotTell: AcceptNote},
		Unlisted:  Row{Known: Accept, KnownOther: AcceptNote, Unknown: Accept, CannotTell: Accept},
	}
}

// Action is the cell for a listing and an answer.
func (p Policy) Action(listing string, a Answer) Action {
	row, def := p.Published, DefaultPolicy().Published
	if strings.EqualFold(listing, "unlisted") {
		row, def = p.Unlisted, DefaultPolicy().Unlisted
	}
	if set := row.cell(a); set != 0 {
		return set
	}
	return def.cell(a)
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

// compare tells Known from KnownOther, and why. A row without a structure contradicts none.
func compare(q Query, rows []Entry) (Answer, string) {
	note := "type differs"
	for _, e := range rows {
		if q.Kind != "" && !strings.EqualFold(q.Kind, e.Kind) {
			continue
		}
		if q.Structure == "" || e.StructureID == "" || sameStructure(q.Structure, e) {
			return Known, ""
		}
		note = "structure differs"
	}
	return KnownOther, note
}

func sameStructure(ours string, e Entry) bool {
	if kind, id, ok := strings.Cut(ours, ":"); ok {
		if e.StructureType != "" && !strings.EqualFold(kind, e.StructureType) {
			return false
		}
		ours = id
	}
	return strings.EqualFold(strings.TrimSpace(ours), e.StructureID)
}
