package admin

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"mssd/directory"
	"mssd/store"
	"mssd/trace"
)

const (
	maxChanges = 1000 // of one answer
	// MaxAcks is the most rows of one acknowledgement: they fit into maxRequest.
	MaxAcks = 40
)

// Changes is what the directory is to be told, a page of it.
type Changes struct {
	At      time.Time          `json:"at"` // moment of the daemon
	Changes []directory.Change `json:"changes"`
	Next    string             `json:"next,omitempty"` // address after which the next page begins; "": this is the last
}

// Pending counts what the directory is to be told.
type Pending struct {
	Additions int `json:"additions"`
	Removals  int `json:"removals"`
}

// Ack is a row of an export that the directory has taken.
type Ack struct {
	Line   int              `json:"line,omitempty"` // in the file, for faults
	Export time.Time        `json:"export"`         // when the export was made
	Change directory.Change `json:"change"`
}

// Acks says that the directory has taken rows.
type Acks struct {
	Rows []Ack `json:"rows"` // MaxAcks at most
}

// Acked is what was noted of them. With Faults nothing was.
type Acked struct {
	Noted  int           `json:"noted"`
	Before int           `json:"before"` // that was known already
	Stale  int           `json:"stale"`  // of a later export more is known: left alone
	Faults []MemberFault `json:"faults,omitempty"`
}

// Add counts what another request of the same file did.
func (a *Acked) Add(o Acked) {
	a.Noted, a.Before, a.Stale, a.Faults = a.Noted+o.Noted, a.Before+o.Before, a.Stale+o.Stale, append(a.Faults, o.Faults...)
}

// RowFaults are the rows that cannot be noted.
func (a *Acked) RowFaults() []MemberFault { return a.Faults }

// String is what people read.
func (a Acked) String() string {
	return fmt.Sprintf("%d noted, %d known already, %d of which a later export says otherwise", a.Noted, a.Before, a.Stale)
}

// Changes is what the directory is to be told of the BALs after an address ("": from the first one).
func (c *Client) Changes(ctx context.Context, after string) (Changes, error) {
	return call[Changes](ctx, c, http.MethodGet, "/v1/publication?after="+url.QueryEscape(after), nil)
}

// AckChanges says that the directory has taken rows of an export.
func (c *Client) AckChanges(ctx context.Context, rows []Ack) (Acked, error) {
	return call[Acked](ctx, c, http.MethodPost, "/v1/publication/acks", Acks{rows})
}

func (s *Server) publication(r *http.Request) (any, error) {
	after := r.URL.Query().Get("after")
	doc := Changes{At: s.Now().UTC().Truncate(time.Second), Changes: []directory.Change{}}
	bals := s.Store.BALs()
	slices.SortFunc(bals, func(a, b store.BAL) int { return cmp.Compare(a.Address, b.Address) })
	faults := s.faults()
	for _, b := range bals {
		if string(b.Address) <= after || faults[b.ID] != "" {
			continue
		}
		if len(doc.Changes) >= maxChanges {
			break
		}
		doc.Changes = append(doc.Changes, changesOf(s.Store, b)...)
		doc.Next = string(b.Address)
	}
	if len(doc.Changes) < maxChanges {
		doc.Next = ""
	}
	s.Store.Record(event(r, trace.Admin, "directory publish", trace.Attr{Key: trace.KeyCount, Value: strconv.Itoa(len(doc.Changes))}))
	return doc, nil
}

// PendingOf counts what the directory is to be told of the BALs of a store.
func PendingOf(st *store.Store) (p Pending) {
	damaged := map[store.BALID]bool{}
	for _, f := range st.Unavailable() {
		damaged[f.BAL] = true
	}
	for _, b := range st.BALs() {
		if damaged[b.ID] {
			continue
		}
		for _, c := range changesOf(st, b) {
			if c.Remove {
				p.Removals++
			} else {
				p.Additions++
			}
		}
	}
	return p
}

// changesOf compares a BAL with what the directory was told of it. A suspended BAL stays as it is there.
func changesOf(st *store.Store, b store.BAL) (list []directory.Change) {
	told := b.Told.Entry != ""
	want := b.Listing == store.Published && (b.State == store.Active || b.State == store.Suspended && told)
	if !want && !told {
		return nil
	}
	person := ""
	if want && b.Kind == store.PER {
		person = holder(st.Members(b.ID), st.Now())
	}
	now := directory.NewChange(b.Kind.String(), string(b.Address), person, b.Structure)
	if told && (!want || now.Entry() != b.Told.Entry) {
		old := now.WithEntry(b.Told.Entry)
		old.Remove = true
		list = append(list, old)
	}
	if want && (!told || now.Entry() != b.Told.Entry) {
		list = append(list, now)
	}
	return list
}

// holder is the professional whom a PER BAL belongs to: the first owner in force who has a national number.
func holder(members []store.Member, now time.Time) (id string) {
	for _, m := range members {
		national := strings.HasPrefix(m.ID, "rpps:") || strings.HasPrefix(m.ID, "adeli:")
		if national && m.Role == store.Owner && m.Active(now) && (id == "" || m.ID < id) {
			id = m.ID
		}
	}
	return id
}

func (s *Server) publicationAck(r *http.Request) (any, error) {
	var req Acks
	if err := decode(r, &req); err != nil {
		return nil, err
	}
	if len(req.Rows) > MaxAcks {
		return nil, badRequest("%d rows; expected %d at most", len(req.Rows), MaxAcks)
	}
	var done Acked
	batch := &store.Batch{}
	told := map[store.Address]store.Told{} // by rows before
	faults, err := lookAt(req.Rows, func(row Ack) int { return row.Line }, func(row Ack) error {
		op, err := s.ack(row, told, &done)
		if op != nil {
			batch.Ops = append(batch.Ops, *op)
		}
		return err
	})
	if err != nil || len(faults) > 0 {
		return Acked{Faults: faults}, err
	}
	batch.Events = []trace.Event{event(r, trace.Admin, "directory publish, acknowledged", trace.Attr{Key: trace.KeyCount, Value: strconv.Itoa(done.Noted)})}
	_, err = s.Store.Commit(r.Context(), batch) // all of it or nothing
	if errors.Is(err, store.ErrToldSince) {
		return nil, &Problem{http.StatusConflict, "another acknowledgement was noted meanwhile", "give the command again"}
	}
	return done, err
}

// ack looks at one row: op is nil where nothing is to be noted. A *Problem is a fault of the row.
func (s *Server) ack(row Ack, told map[store.Address]store.Told, done *Acked) (op *store.Tell, err error) {
	a := address(row.Change.Address)
	b, err := s.Store.BAL(a)
	switch {
	case errors.Is(err, store.ErrNoBAL):
		return nil, badRequest("there is no BAL %q", row.Change.Address)
	case err != nil:
		return nil, badRequest("%s: %s", a, problem(err).Text)
	case row.Change.Kind != b.Kind.String():
		return nil, badRequest("%s is of kind %s, not %q", a, b.Kind, row.Change.Kind)
	case row.Export.IsZero() || row.Export.After(s.Now().Add(time.Minute)):
		return nil, badRequest("%s: the export is of no moment that was", a)
	}
	was, ok := told[a]
	if !ok {
		was = b.Told
	}
	entry := row.Change.Entry()
	next := store.Told{Entry: entry, At: row.Export.UTC().Truncate(time.Second)}
	if row.Change.Remove {
		next.Entry = ""
	}
	switch {
	case next.At.Before(was.At):
		done.Stale++
		return nil, nil
	case next.Entry == was.Entry, row.Change.Remove && was.Entry != entry && next.At.Equal(was.At):
		done.Before++ // the second: the file was given before, and what comes behind the removal in it is noted too
		return nil, nil
	}
	done.Noted++
	told[a] = next
	return &store.Tell{Address: a, Told: next}, nil
}
