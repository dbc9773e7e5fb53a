package admin

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"time"

	"mssd/store"
	"mssd/trace"
)

// SetState asks for another state of a BAL.
type SetState struct {
	State  string `json:"state"`            // active, suspended or closed
	Reason string `json:"reason,omitempty"` // for the trace: one line that names no patient
}

// Destroy asks for the destruction of a closed BAL.
type Destroy struct {
	DryRun bool   `json:"dry_run,omitempty"` // only say what would go
	Reason string `json:"reason,omitempty"`  // for the trace: one line that names no patient
}

// Destruction is how far the destruction of a BAL has come.
type Destruction struct {
	At      time.Time `json:"at"`
	KeyGone bool      `json:"key_overwritten"`
	Wiped   bool      `json:"records_gone"`
}

// Doomed says what a BAL held, and who can still open it.
type Doomed struct {
	Address   string       `json:"address"`
	State     string       `json:"state"`
	Messages  int64        `json:"messages"`
	Octets    int64        `json:"octets"`
	Expunged  int64        `json:"expunged"` // messages that could still come back
	Mailboxes int          `json:"mailboxes"`
	Members   int          `json:"members"`
	Destroyed *Destruction `json:"destroyed,omitempty"`
	Shredded  bool         `json:"shredded"`          // nothing that this store knows of opens it any more
	Backups   []Backup     `json:"backups,omitempty"` // that have its key
	Refused   *Problem     `json:"refused,omitempty"` // why it cannot be destroyed now
}

// SetState sets the state of a BAL; reason may be "".
func (c *Client) SetState(ctx context.Context, address, state, reason string) (BAL, error) {
	return call[BAL](ctx, c, http.MethodPut, balPath(address, "/state"), SetState{state, reason})
}

// Destroy destroys a closed BAL, or says what would go; reason may be "".
func (c *Client) Destroy(ctx context.Context, address string, dryRun bool, reason string) (Doomed, error) {
	return call[Doomed](ctx, c, http.MethodPost, balPath(address, "/destruction"), Destroy{dryRun, reason})
}

// acts are the states that a BAL can be given, and what the command is called.
var acts = map[store.State]string{store.Active: "bal resume", store.Suspended: "bal suspend", store.Closed: "bal close"}

func (s *Server) setState(r *http.Request) (any, error) {
	var req SetState
	if err := decode(r, &req); err != nil {
		return nil, err
	}
	st, err := store.ParseState(req.State)
	act := acts[st]
	if err != nil || act == "" {
		return nil, badRequest("%q is no state that a BAL can be given; expected active, suspended or closed", req.State)
	}
	why, err := reasonAttr(req.Reason)
	if err != nil {
		return nil, err
	}
	b, err := s.Store.BAL(address(r.PathValue("address")))
	if err != nil {
		return nil, err
	}
	ev := balEvent(r, trace.BAL, act, b, append(why, trace.Attr{Key: trace.KeyState, Value: st.String()})...)
	batch := &store.Batch{Ops: []store.Op{store.SetBALState{Address: b.Address, State: st}}, Events: []trace.Event{ev}}
	if _, err := s.Store.Commit(r.Context(), batch); err != nil {
		return nil, err
	}
	if b, err = s.Store.BAL(b.Address); err != nil {
		return nil, err
	}
	return s.wholeBAL(b)
}

// reasonAttr is the attribute of a reason that may be missing.
func reasonAttr(reason string) ([]trace.Attr, error) {
	reason = strings.TrimSpace(reason)
	if reason == "" {
		return nil, nil
	}
	return []trace.Attr{{Key: trace.KeyReason, Value: reason}}, checkReason(reason)
}

func (s *Server) destroy(r *http.Request) (any, error) {
	var req Destroy
	if err := decode(r, &req); err != nil {
		return nil, err
	}
	why, err := reasonAttr(req.Reason)
	if err != nil {
		return nil, err
	}
	b, err := s.Store.BAL(address(r.PathValue("address")))
	if err != nil {
		return nil, err
	}
	if req.DryRun {
		s.Store.Record(balEvent(r, trace.Admin, "bal destroy, dry run", b))
		d, err := s.Store.Doom(b.Address)
		return s.doomed(d), err
	}
	ev := balEvent(r, trace.BAL, "bal destroy", b, append(why, trace.Attr{Key: trace.KeyState, Value: store.Destroyed.String()})...)
	d, err := s.Store.DestroyBAL(r.Context(), b.Address, ev)
	if err != nil {
		if now, err2 := s.Store.BAL(b.Address); err2 == nil && now.State == store.Destroyed && b.State != store.Destroyed {
			s.Log.Error("destruction of a BAL is not finished", "bal", string(b.Address), "err", err)
			return nil, &Problem{http.StatusInternalServerError, fmt.Sprintf("it is decided, but not finished: %v", err),
				"it is tried again every hour and at the next start; mssd bal show says how far it is"}
		}
		return nil, err
	}
	return s.doomed(d), nil
}

func (s *Server) doomed(d store.Doomed) Doomed {
	doc := Doomed{Address: string(d.BAL.Address), State: d.BAL.State.String(), Messages: d.BAL.Messages, Octets: d.BAL.Octets,
		Expunged: d.Expunged, Mailboxes: d.Mailboxes, Members: d.Members, Destroyed: destruction(d.BAL), Shredded: d.Shredded()}
	for _, b := range d.Backups {
		doc.Backups = append(doc.Backups, backupDoc(b, ""))
	}
	if d.Refused != nil {
		doc.Refused = problem(d.Refused)
	}
	return doc
}

func destruction(b store.BAL) *Destruction {
	if b.State != store.Destroyed {
		return nil
	}
	return &Destruction{b.Destroyed.At, b.Destroyed.KeyGone, b.Destroyed.Wiped}
}
