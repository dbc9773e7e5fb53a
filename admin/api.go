package admin

import (
	"time"

	"mssd/trace"
)

// The documents that travel over the socket. Times are RFC 3339, sizes octets.

// BAL is a BAL as the command line shows it.
type BAL struct {
	Address       string       `json:"address"`
	Kind          string       `json:"kind"`
	State         string       `json:"state"`
	Listing       string       `json:"listing"`
	Structure     string       `json:"structure,omitempty"`
	Created       time.Time    `json:"created"`
	Messages      int64        `json:"messages"`
	Octets        int64        `json:"octets"`
	QuotaOctets   int64        `json:"quota_octets"`
	QuotaMessages int64        `json:"quota_messages"`
	Destroyed     *Destruction `json:"destroyed,omitempty"`
	LastLogin     *time.Time   `json:"last_login,omitempty"`  // or reading of mail, up to an hour behind
	HeldSince     *time.Time   `json:"held_since,omitempty"`  // beginning of the legal hold
	Deleted       *DeletedSum  `json:"deleted,omitempty"`     // only when one BAL is asked for
	Unavailable   string       `json:"unavailable,omitempty"` // why it cannot be used: what is kept of it is damaged
	Members       []Member     `json:"members,omitempty"`     // only when one BAL is asked for
	Mailboxes     []Mailbox    `json:"mailboxes,omitempty"`   // only when one BAL is asked for
}

// Member is a person with a role. A hash is never part of it.
type Member struct {
	ID          string     `json:"id"`
	Role        string     `json:"role"`
	From        *time.Time `json:"from,omitempty"`
	Until       *time.Time `json:"until,omitempty"`
	HasPassword bool       `json:"has_password"`
	HasSCRAM    bool       `json:"has_scram"` // the password opens by SCRAM too
	State       string     `json:"state"`     // active, ended, not yet, over
}

// Mailbox is one mailbox of a BAL.
type Mailbox struct {
	Name     string `json:"name"`
	Messages uint32 `json:"messages"`
	Unseen   uint32 `json:"unseen"`
	Octets   int64  `json:"octets"`
	// RetentionDays is after how many days a message is expunged, 0 never; RetentionDefault: as its special use says.
	RetentionDays    uint32 `json:"retention_days"`
	RetentionDefault bool   `json:"retention_default"`
}

// DeletedSum is what was expunged and can come back.
type DeletedSum struct {
	Messages int64 `json:"messages"`
	Octets   int64 `json:"octets"`
}

// NewBAL asks for a BAL, with its first member where Member is set.
type NewBAL struct {
	Address       string     `json:"address"`
	Kind          string     `json:"kind"`
	Listing       string     `json:"listing,omitempty"` // "": unlisted for APP, else published
	State         string     `json:"state,omitempty"`   // "": active
	Structure     string     `json:"structure,omitempty"`
	QuotaOctets   int64      `json:"quota_octets,omitempty"`
	QuotaMessages int64      `json:"quota_messages,omitempty"`
	Member        *NewMember `json:"member,omitempty"`
	// AfterRestore: in a store that was restored, nobody else had this address after the backup.
	AfterRestore bool `json:"after_restore,omitempty"`
}

// NewMember asks for a member. With neither Password nor NoPassword the daemon makes a password up.
type NewMember struct {
	ID         string     `json:"id"`
	Role       string     `json:"role,omitempty"` // "": owner for the first member, else writer
	From       *time.Time `json:"from,omitempty"`
	Until      *time.Time `json:"until,omitempty"`
	Password   string     `json:"password,omitempty"`
	NoPassword bool       `json:"no_password,omitempty"`
}

// Made is the answer to NewBAL and NewMember.
type Made struct {
	BAL      BAL    `json:"bal"`
	Member   string `json:"member,omitempty"`
	User     string `json:"user,omitempty"`     // what the member types as user name
	Password string `json:"password,omitempty"` // made up by the daemon; shown this once
}

// TraceEvent is an event of the trace.
type TraceEvent struct {
	Seq     uint64            `json:"seq"`
	ID      string            `json:"id,omitempty"`
	Time    time.Time         `json:"time"`
	Kind    string            `json:"kind"`
	Conn    uint64            `json:"conn,omitempty"`
	Person  string            `json:"person,omitempty"`
	BAL     string            `json:"bal,omitempty"`
	Mailbox uint32            `json:"mailbox,omitempty"`
	UIDs    string            `json:"uids,omitempty"`
	Attrs   map[string]string `json:"attrs,omitempty"`
	Line    string            `json:"line"` // the same for people
}

func traceEvent(e trace.Event) TraceEvent {
	t := TraceEvent{Seq: e.Seq, Time: e.Time, Kind: e.Kind.String(), Conn: e.Conn, Person: e.Person, BAL: e.BAL,
		Mailbox: e.Mailbox, UIDs: e.UIDs, Line: e.Line()}
	if e.ID != 0 {
		t.ID = e.ID.String()
	}
	if len(e.Attrs) > 0 {
		t.Attrs = make(map[string]string, len(e.Attrs))
		for _, a := range e.Attrs {
			t.Attrs[a.Key] = a.Value
		}
	}
	return t
}

// Trace is the life of the messages asked for; a Message-ID can belong to several.
type Trace struct {
	Messages []TraceMessage `json:"messages"`
}

// TraceMessage is the life of one message.
type TraceMessage struct {
	ID     string       `json:"id"`
	Events []TraceEvent `json:"events"`
}

// Health is how the daemon does.
type Health struct {
	Status     string            `json:"status"` // "ok" or "degraded"
	Reasons    []string          `json:"reasons,omitempty"`
	Warnings   []string          `json:"warnings,omitempty"` // it works, but someone should look
	Version    string            `json:"version"`
	PID        int               `json:"pid"`
	Since      time.Time         `json:"since"`
	Fronts     map[string]string `json:"fronts"` // name → addresses
	List       *ListHealth       `json:"white_list,omitempty"`
	FreeOctets int64             `json:"free_octets"`
	BALs       int               `json:"bals"`
}

// ListHealth is the white list in force.
type ListHealth struct {
	Version    string `json:"version"`
	Domains    int    `json:"domains"`
	AgeSeconds int64  `json:"age_seconds"`
}

// Check is the outcome of a look at the whole store.
type Check struct {
	Problems []string `json:"problems"`
	Lost     int      `json:"lost"` // bodies in the folder lost
}

// Reloaded is the outcome of a reload: what could not be read stays as it was.
type Reloaded struct {
	Kept []string `json:"kept,omitempty"` // faults; the former file of each is still in force
}

// Problem is an error as it travels: what happened, and what to do about it.
type Problem struct {
	Status int    `json:"status"`
	Text   string `json:"text"`
	Hint   string `json:"hint,omitempty"`
}

func (p *Problem) Error() string {
	if p.Hint == "" {
		return p.Text
	}
	return p.Text + "; " + p.Hint
}
