package admin

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"mssd/store"
	"mssd/trace"
)

// MaxDeclared is the most BALs of one request: their mailboxes are made in one commit, which others wait for.
const MaxDeclared = 30

// DeclareRow is one BAL that is to be there.
type DeclareRow struct {
	Line      int    `json:"line,omitempty"` // in the file, for faults
	BAL       string `json:"bal"`
	Kind      string `json:"kind"`
	Listing   string `json:"listing,omitempty"` // as NewBAL
	Structure string `json:"structure,omitempty"`
	State     string `json:"state,omitempty"` // declared or active; "": declared
	Owner     string `json:"owner,omitempty"` // id of its first member, who gets no password; "": none
}

// Declare asks that BALs be there. One that is there as its row says is left as it is, whatever its state and members are
// by now; a row that differs from what is there is a fault: nothing of a BAL is changed by a declaration.
type Declare struct {
	DryRun       bool         `json:"dry_run,omitempty"`
	AfterRestore bool         `json:"after_restore,omitempty"` // as NewBAL
	Rows         []DeclareRow `json:"rows"`                    // MaxDeclared at most
}

// Declared is what a declaration did, or would do. With Faults nothing was done.
type Declared struct {
	Added     int           `json:"added"`
	Unchanged int           `json:"unchanged"`
	Faults    []MemberFault `json:"faults,omitempty"`
}

// Add counts what another request of the same file did.
func (d *Declared) Add(o Declared) {
	d.Added, d.Unchanged, d.Faults = d.Added+o.Added, d.Unchanged+o.Unchanged, append(d.Faults, o.Faults...)
}

// RowFaults are the rows that cannot be done.
func (d *Declared) RowFaults() []MemberFault { return d.Faults }

// String is what people read.
func (d Declared) String() string {
	return fmt.Sprintf("%d added, %d there already", d.Added, d.Unchanged)
}

// DeclareBALs makes BALs that are not there yet.
func (c *Client) DeclareBALs(ctx context.Context, d Declare) (Declared, error) {
	return call[Declared](ctx, c, http.MethodPost, "/v1/declarations", d)
}

func (s *Server) declare(r *http.Request) (any, error) {
	var req Declare
	if err := decode(r, &req); err != nil {
		return nil, err
	}
	if len(req.Rows) > MaxDeclared {
		return nil, badRequest("%d rows; expected %d at most", len(req.Rows), MaxDeclared)
	}
	d := &declaring{s: s, r: r, seen: map[store.Address]int{}, vouched: req.AfterRestore}
	mark, _, err := s.Store.Restored()
	if err != nil {
		return nil, err
	}
	d.settling = mark.Settling()
	if d.done.Faults, err = lookAt(req.Rows, func(row DeclareRow) int { return row.Line }, d.row); err != nil {
		return nil, err
	}
	return d.done, s.doTable(r, "bal declare", len(req.Rows), req.DryRun, d.done.Faults, &d.batch)
}

// declaring is a declaration that is being looked at.
type declaring struct {
	s     *Server
	r     *http.Request
	seen  map[store.Address]int // its line
	batch store.Batch
	done  Declared

	settling, vouched bool // the store was restored (store.Restored); nobody else had these addresses since
}

// row adds what one row asks for. A *Problem is a fault of the row.
func (d *declaring) row(row DeclareRow) error {
	switch row.State {
	case "":
		row.State = store.Declared.String()
	case store.Declared.String(), store.Active.String():
	default:
		return badRequest("state %q; expected declared or active", row.State)
	}
	b, err := newBAL(NewBAL{Address: row.BAL, Kind: row.Kind, Listing: row.Listing, State: row.State, Structure: row.Structure})
	if err != nil {
		return err
	}
	if line, twice := d.seen[b.Address]; twice {
		return badRequest("%s stands in line %d already", b.Address, line)
	}
	d.seen[b.Address] = row.Line
	var owner store.Member
	if row.Owner != "" {
		req := NewMember{ID: canonicalID(row.Owner), Role: store.Owner.String(), NoPassword: true}
		if err := d.s.certMember(&req, b.Kind); err != nil {
			return err
		}
		if owner, _, err = d.s.newMember(d.r.Context(), b.Address, req); err != nil {
			return err
		}
	}
	old, err := d.s.Store.BAL(b.Address)
	switch {
	case errors.Is(err, store.ErrNoBAL):
	case err != nil:
		return badRequest("%s: %s", b.Address, problem(err).Text)
	default:
		return d.there(old, b)
	}
	if d.settling && !d.vouched {
		return badRequest("%s: %s", b.Address, problem(store.ErrRestored).Error())
	}
	d.done.Added++
	ev := event(d.r, trace.BAL, "bal declare", trace.Attr{Key: trace.KeyState, Value: b.State.String()})
	ev.BAL = string(b.Address)
	d.batch.Ops = append(d.batch.Ops, store.PutBAL{BAL: b, Create: true, AfterRestore: d.vouched})
	d.batch.Events = append(d.batch.Events, ev)
	if owner.ID != "" {
		d.batch.Ops = append(d.batch.Ops, store.PutMember{Address: b.Address, Member: owner})
		d.batch.Events = append(d.batch.Events, memberEvent(d.r, "member add", b.Address, owner))
	}
	return nil
}

// there compares a row with the BAL of its address.
func (d *declaring) there(old, b store.BAL) error {
	switch {
	case old.State == store.Destroyed:
		return badRequest("%s was destroyed; its address is never given again", b.Address)
	case old.Kind != b.Kind:
		return badRequest("%s is there with kind %s, which never changes", b.Address, old.Kind)
	case old.Listing != b.Listing:
		return badRequest("%s is there and %s; mssd bal listing changes it", b.Address, old.Listing)
	case old.Structure != b.Structure:
		return badRequest("%s is there with structure %q; a declaration changes nothing", b.Address, old.Structure)
	}
	d.done.Unchanged++
	return nil
}
