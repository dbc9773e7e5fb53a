package directory

import (
	"fmt"
	"strings"
	"time"
)

// Query names a recipient of ours, as we hold it.
type Query struct {
	Address   string // whole address, lower case
	Kind      string // "PER", "ORG", "APP", "CAB"
	Structure string // FINESS or other identifier of its structure; "" not compared
	Listing   string // "published" or "unlisted"
}

// Answer is what the directory says of an address.
type Answer uint8

const (
	Known      Answer = iota // it stands there
	KnownOther               // it stands there with another type or structure
	Unknown                  // it does not stand there, and that is proven
	CannotTell               // no image, too old, or the live question failed
	answers    = iota
)

func (a Answer) String() string {
	return [...]string{"known", "known with another type or structure", "unknown", "cannot tell"}[min(a, CannotTell)]
}

// Action is what is done with the recipient. The zero Action is "not set": the default.
type Action uint8

const (
	unset       Action = iota
	Accept             // accept
	AcceptNote         // accept, with a note in the trace
	AcceptAlert        // accept, note, and tell the operator
	Refuse550          // 550: the sender gets the mail back
	Defer450           // 450: the sender tries again; the BAL is in question
	Defer451           // 451: the sender tries again; our own fault
)

var actionWords = [...]string{"", "accept", "note", "alert", "refuse", "defer", "defer-local"}

func (a Action) String() string {
	if int(a) >= len(actionWords) {
		return "unknown"
	}
	return actionWords[a]
}

// ParseAction reads "accept", "note", "alert", "refuse" (550), "defer" (450) or "defer-local" (451).
func ParseAction(s string) (Action, error) {
	for i, w := range actionWords {
		if w != "" && w == s {
			return Action(i), nil
		}
	}
	return 0, fmt.Errorf("%q is no action; expected one of %s", s, strings.Join(actionWords[1:], ", "))
}

// Refuses reports whether the recipient is not accepted now.
func (a Action) Refuses() bool { return a >= Refuse550 }

// Row is what is done for each answer.
type Row struct{ Known, KnownOther, Unknown, CannotTell Action }

// Policy is the table: a row for each listing of a BAL. Cells that are not set have the default.
type Policy struct{ Published, Unlisted Row }

// DefaultPolicy refuses only where a published BAL is proven absent: the pharmacy would then have been taken out of the
// directory, and its patients must learn that their mail does not arrive. An absence is expected of an unlisted one
// (liste rouge, APP). What cannot be told never loses mail.
func DefaultPolicy() Policy {
	return Policy{
		Published: Row{Known: Accept, KnownOther: AcceptAlert, Unknown: Refuse550, CannotTell: AcceptNote},
		Unlisted:  Row{Known: Accept, KnownOther: AcceptNote, Unknown: Accept, CannotTell: Accept},
	}
}

func (p Policy) withDefaults() Policy {
	def := DefaultPolicy()
	for _, r := range []struct{ to, from *Row }{{&p.Published, &def.Published}, {&p.Unlisted, &def.Unlisted}} {
		setDefault(&r.to.Known, r.from.Known)
		setDefault(&r.to.KnownOther, r.from.KnownOther)
		setDefault(&r.to.Unknown, r.from.Unknown)
		setDefault(&r.to.CannotTell, r.from.CannotTell)
	}
	return p
}

// action is the cell of a listing and an answer. A listing that is not "unlisted" is published.
func (p Policy) action(listing string, a Answer) Action {
	r := p.Published
	if listing == "unlisted" {
		r = p.Unlisted
	}
	return [answers]Action{r.Known, r.KnownOther, r.Unknown, r.CannotTell}[min(a, CannotTell)]
}

// Decision is what was decided for a recipient, and why: it goes into the trace.
type Decision struct {
	Answer     Answer
	Action     Action
	Source     string // "ldap", "extraction", "ldap live"; "" no image
	Generation uint64 // of the image
	Age        time.Duration
	Live       bool   // a live question was asked
	Note       string // the reason in words

	unproven bool // absent from the image, which cannot prove it
}

// Entry is one holder of an address; an address may have several.
type Entry struct {
	Address       string `json:"address"`
	Kind          string `json:"kind"`                     // PER, ORG, APP, CAB
	StructureType string `json:"structure_type,omitempty"` // FINESS, SIRET, SIREN or a code of TRE_G07
	StructureID   string `json:"structure_id,omitempty"`
	PersonType    string `json:"person_type,omitempty"` // 0 ADELI, 8 RPPS
	PersonID      string `json:"person_id,omitempty"`
	Profession    string `json:"profession,omitempty"` // code of TRE_G15: 10 physician, 21 pharmacist, …
	Name          string `json:"name,omitempty"`
	Town          string `json:"town,omitempty"`
}

// matchEntries compares what we hold with the holders of its address.
func matchEntries(q Query, entries []Entry) (Answer, string) {
	if len(entries) == 0 {
		return Unknown, ""
	}
	kind := false
	for i := range entries {
		same := strings.EqualFold(entries[i].Kind, q.Kind)
		kind = kind || same
		if same && (q.Structure == "" || strings.EqualFold(entries[i].StructureID, q.Structure)) {
			return Known, ""
		}
	}
	return KnownOther, otherNote(kind)
}

func otherNote(sameKind bool) string {
	if sameKind {
		return "the directory names another structure"
	}
	return "the directory names another type of BAL"
}

// Status is the state of the mirror, for people and monitoring.
type Status struct {
	Feeds []FeedStatus `json:"feeds"`
	Live  string       `json:"live"` // "off", "ok", or why live questions are not asked for now
}

// FeedStatus is the state of one feed.
type FeedStatus struct {
	Name       string         `json:"name"`
	Source     string         `json:"source"` // address of the server, or name of the file
	Loaded     bool           `json:"loaded"`
	Generation uint64         `json:"generation"`
	Time       time.Time      `json:"time,omitzero"` // of the data
	AgeSeconds int64          `json:"age_seconds"`
	Rows       int            `json:"rows"`
	Addresses  int            `json:"addresses"`
	ByKind     map[string]int `json:"by_kind,omitempty"`
	LastTry    time.Time      `json:"last_try,omitzero"`
	NextTry    time.Time      `json:"next_try,omitzero"`
	LastError  string         `json:"last_error,omitempty"`
	Reading    bool           `json:"reading,omitempty"` // it is being read now
	State      string         `json:"state"` // "ok", "stale", "too old", "empty"
}

// Status returns the state of each feed.
func (d *Directory) Status() Status {
	s := Status{Live: "off"}
	if d.live != nil {
		s.Live = d.live.state()
	}
	for _, f := range d.feeds {
		s.Feeds = append(s.Feeds, d.feedStatus(f))
	}
	return s
}

func (d *Directory) feedStatus(f *feed) FeedStatus {
	fs := FeedStatus{Name: f.name, State: "empty"}
	if f.name == "ldap" {
		fs.Source = d.cfg.LDAP.URL
	} else {
		fs.Source = d.cfg.Extraction.File
	}
	if img := f.image.Load(); img != nil {
		age := d.cfg.Now().Sub(img.Time)
		fs.Loaded, fs.Generation, fs.Time, fs.AgeSeconds = true, img.Generation, img.Time, int64(age.Seconds())
		fs.Rows, fs.Addresses, fs.ByKind = len(img.rows), img.addresses, img.byKind()
		switch {
		case age > d.cfg.CannotTellAfter:
			fs.State = "too old"
		case age > d.cfg.StaleAfter:
			fs.State = "stale"
		default:
			fs.State = "ok"
		}
	}
	// A reading may hold the lock for long; the rest of the status does not wait for it.
	if f.mu.TryLock() {
		defer f.mu.Unlock()
		fs.LastTry, fs.NextTry = f.lastTry, f.nextTry
		if f.lastErr != nil {
			fs.LastError = f.lastErr.Error()
		}
	} else {
		fs.Reading = true
	}
	return fs
}
