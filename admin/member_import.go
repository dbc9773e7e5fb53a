package admin

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"mssd/store"
	"mssd/trace"
)

// MaxMemberRows is the most rows of one request: they fit into maxRequest.
const MaxMemberRows = 60

// MemberRow is one membership in an export or an import.
type MemberRow struct {
	Line   int        `json:"line,omitempty"` // in the file, for faults
	BAL    string     `json:"bal"`
	Member string     `json:"member"`
	Role   string     `json:"role"`
	From   *time.Time `json:"from,omitempty"`
	Until  *time.Time `json:"until,omitempty"`
	State  string     `json:"state,omitempty"` // as Member.State; an import looks at "ended" only
}

// MemberImport asks that memberships become what the rows say. Nobody who is not named is touched; no row changes a password.
type MemberImport struct {
	DryRun bool        `json:"dry_run,omitempty"`
	Rows   []MemberRow `json:"rows"` // MaxMemberRows at most
}

// MemberImported is what an import did, or would do. With Faults nothing was done.
type MemberImported struct {
	Added     int           `json:"added"`
	Changed   int           `json:"changed"`
	Ended     int           `json:"ended"`
	Unchanged int           `json:"unchanged"`
	Faults    []MemberFault `json:"faults,omitempty"`
}

// Members lists the memberships of one BAL, or of all where address is "".
func (c *Client) Members(ctx context.Context, address string) ([]MemberRow, error) {
	return call[[]MemberRow](ctx, c, "GET", "/v1/members?bal="+url.QueryEscape(address), nil)
}

// ImportMembers makes memberships what rows say.
func (c *Client) ImportMembers(ctx context.Context, rows []MemberRow, dryRun bool) (MemberImported, error) {
	return call[MemberImported](ctx, c, "POST", "/v1/members", MemberImport{DryRun: dryRun, Rows: rows})
}

func (s *Server) memberList(r *http.Request) (any, error) {
	a := r.URL.Query().Get("bal")
	bals := s.Store.BALs()
	if a != "" {
		b, err := s.Store.BAL(address(a))
		if err != nil {
			return nil, err
		}
		bals = []store.BAL{b}
	}
	ev := event(r, trace.Admin, "member export")
	ev.BAL = a
	s.Store.Record(ev)
	slices.SortFunc(bals, func(a, b store.BAL) int { return strings.Compare(string(a.Address), string(b.Address)) })
	rows := []MemberRow{}
	for _, b := range bals {
		for _, m := range s.Store.Members(b.ID) {
			doc := s.member(m)
			rows = append(rows, MemberRow{BAL: string(b.Address), Member: m.ID, Role: doc.Role, From: doc.From, Until: doc.Until, State: doc.State})
		}
	}
	return rows, nil
}

func (s *Server) memberImport(r *http.Request) (any, error) {
	var req MemberImport
	if err := decode(r, &req); err != nil {
		return nil, err
	}
	if len(req.Rows) > MaxMemberRows {
		return nil, badRequest("%d rows; expected %d at most", len(req.Rows), MaxMemberRows)
	}
	im := &memberImport{s: s, r: r, seen: map[string]int{}}
	var err error
	if im.done.Faults, err = lookAt(req.Rows, func(row MemberRow) int { return row.Line }, im.row); err != nil {
		return nil, err
	}
	return im.done, s.doTable(r, "member import", len(req.Rows), req.DryRun, im.done.Faults, &im.batch)
}

// memberImport is an import that is being looked at.
type memberImport struct {
	s     *Server
	r     *http.Request
	seen  map[string]int // line of a BAL and a member
	batch store.Batch
	done  MemberImported
}

// row adds what one row asks for. A *Problem is a fault of the row.
func (im *memberImport) row(row MemberRow) error {
	b, err := im.s.Store.BAL(address(row.BAL))
	if errors.Is(err, store.ErrNoBAL) {
		return badRequest("there is no BAL %q", row.BAL)
	}
	if err != nil {
		p := problem(err)
		return badRequest("%s: %s", row.BAL, p.Text)
	}
	req := NewMember{ID: canonicalID(row.Member), Role: row.Role, From: row.From, Until: row.Until, NoPassword: true}
	if err := im.s.certMember(&req, b.Kind); err != nil {
		return err
	}
	m, _, err := im.s.newMember(im.r.Context(), b.Address, req)
	if err != nil {
		return err
	}
	key := string(b.Address) + "\x00" + strings.ToLower(m.ID)
	if line, twice := im.seen[key]; twice {
		return badRequest("%s at %s stands in line %d already", m.ID, b.Address, line)
	}
	im.seen[key] = row.Line
	old, known := im.member(b.ID, m.ID)
	switch {
	case row.State == "ended" && (!known || old.Ended):
		im.done.Unchanged++
	case row.State == "ended":
		im.done.Ended++
		im.add("member end", b.Address, old, store.EndMember{Address: b.Address, Member: m.ID})
	case !known || old.Ended:
		im.done.Added++
		im.add("member add", b.Address, m, store.PutMember{Address: b.Address, Member: m})
	case old.Role == m.Role && old.From.Equal(m.From) && old.Until.Equal(m.Until):
		im.done.Unchanged++
	default:
		im.done.Changed++
		m.PasswordHash, m.SCRAM = old.PasswordHash, old.SCRAM
		im.add("member change", b.Address, m, store.PutMember{Address: b.Address, Member: m})
	}
	return nil
}

func (im *memberImport) member(bal store.BALID, id string) (store.Member, bool) {
	for _, m := range im.s.Store.Members(bal) {
		if m.ID == id {
			return m, true
		}
	}
	return store.Member{}, false
}

func (im *memberImport) add(act string, a store.Address, m store.Member, op store.Op) {
	im.batch.Ops = append(im.batch.Ops, op)
	im.batch.Events = append(im.batch.Events, memberEvent(im.r, act, a, m))
}

// Add counts what another request of the same import did.
func (d *MemberImported) Add(o MemberImported) {
	d.Added, d.Changed, d.Ended, d.Unchanged = d.Added+o.Added, d.Changed+o.Changed, d.Ended+o.Ended, d.Unchanged+o.Unchanged
	d.Faults = append(d.Faults, o.Faults...)
}

// RowFaults are the rows that cannot be done.
func (d *MemberImported) RowFaults() []MemberFault { return d.Faults }

// String is what people read.
func (d MemberImported) String() string {
	return fmt.Sprintf("%d added, %d changed, %d ended, %d as they were", d.Added, d.Changed, d.Ended, d.Unchanged)
}
