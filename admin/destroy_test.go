package admin

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"mssd/store"
	"mssd/store/storetest"
	"mssd/trace"
)

// actsOn are the acts on a BAL that stand in the trace.
func actsOn(t *testing.T, s *store.Store, address string) (acts []string) {
	t.Helper()
	events, err := s.Trace(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range events {
		if e.BAL == address {
			acts = append(acts, e.Attr(trace.KeyAct))
		}
	}
	return acts
}

func TestStates(t *testing.T) {
	h := open(t)
	made := h.addBAL(t, "p@officines.example")
	for _, step := range []struct{ state, want string }{{"suspended", "suspended"}, {"Closed", "closed"}, {"closed", "closed"}, {"active", "active"}} {
		b, err := h.SetState(t.Context(), made.BAL.Address, step.state, "")
		if err != nil || b.State != step.want {
			t.Errorf("%s: %+v, %v", step.state, b, err)
		}
	}
	for _, bad := range []string{"", "declared", "destroyed", "x"} {
		var p *Problem
		if _, err := h.SetState(t.Context(), made.BAL.Address, bad, ""); !errors.As(err, &p) || p.Status != http.StatusBadRequest {
			t.Errorf("%q: %v", bad, err)
		}
	}
	if b, err := h.BAL(t.Context(), made.BAL.Address); err != nil || b.State != "active" {
		t.Errorf("%+v, %v", b, err)
	}
}

// TestDestroy says first what would go and why not yet, then does it, and is honest about backups.
func TestDestroy(t *testing.T) {
	h := open(t)
	made := h.addBAL(t, "p@officines.example")
	addr := made.BAL.Address
	b, err := h.store.BAL(store.Address(addr))
	if err != nil {
		t.Fatal(err)
	}
	storetest.Deliver(t, h.store, b.ID, "Subject: x\r\n\r\ny")
	refused := func(what, hint string) {
		t.Helper()
		plan, err := h.Destroy(t.Context(), addr, true, "")
		if err != nil || plan.Messages != 1 || plan.Members != 1 || plan.Refused == nil || !strings.Contains(plan.Refused.Error(), hint) {
			t.Errorf("%s: %+v, %v", what, plan, err)
		}
		var p *Problem
		if _, err := h.Destroy(t.Context(), addr, false, ""); !errors.As(err, &p) || p.Status != http.StatusConflict || !strings.Contains(p.Error(), hint) {
			t.Errorf("%s: %v", what, err)
		}
	}
	refused("open", "mssd bal close")
	if _, err := h.SetState(t.Context(), addr, "closed", ""); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Hold(t.Context(), addr, "order 7"); err != nil {
		t.Fatal(err)
	}
	refused("held", "mssd bal release")
	if _, err := h.Release(t.Context(), addr); err != nil {
		t.Fatal(err)
	}
	id := h.store.NewID()
	if _, err := h.store.Commit(t.Context(), &store.Batch{Ops: []store.Op{store.PutBackup{Backup: store.Backup{ID: id, Label: "/mnt/usb", Began: time.Now(), HighestBAL: b.ID}}}}); err != nil {
		t.Fatal(err)
	}
	plan, err := h.Destroy(t.Context(), addr, true, "")
	if err != nil || plan.Refused != nil || plan.Shredded || len(plan.Backups) != 1 || plan.Destroyed != nil {
		t.Errorf("plan %+v, %v", plan, err)
	}
	if b, err := h.BAL(t.Context(), addr); err != nil || b.State != "closed" || b.Messages != 1 {
		t.Errorf("a dry run changed something: %+v, %v", b, err)
	}
	done, err := h.Destroy(t.Context(), addr, false, "")
	if err != nil || done.State != "destroyed" || done.Shredded || done.Messages != 1 || len(done.Backups) != 1 || done.Backups[0].Label != "/mnt/usb" || !done.Destroyed.KeyGone {
		t.Errorf("done %+v, %v", done, err)
	}
	if err := h.store.FinishDestroying(context.Background()); err != nil {
		t.Fatal(err)
	}
	shown, err := h.BAL(t.Context(), addr)
	if err != nil || shown.State != "destroyed" || shown.Destroyed == nil || !shown.Destroyed.Wiped || len(shown.Members)+len(shown.Mailboxes) > 0 {
		t.Errorf("shown %+v, %v", shown, err)
	}
	var p *Problem
	for what, err := range map[string]error{
		"state": second(h.SetState(t.Context(), addr, "active", "")),
		"again": second(h.Destroy(t.Context(), addr, false, "")),
		"new":   second(h.AddBAL(t.Context(), NewBAL{Address: addr, Kind: "ORG"})),
		"hold":  second(h.Hold(t.Context(), addr, "order 8")),
		"export": second(h.ExportBAL(t.Context(), addr, Export{
			Head: func(TransferHead) error { t.Error("an export of a destroyed BAL began"); return nil },
		})),
	} {
		if !errors.As(err, &p) || p.Status != http.StatusConflict || !strings.Contains(p.Text, "never given again") {
			t.Errorf("%s: %v", what, err)
		}
	}
	if _, err := h.store.Commit(t.Context(), &store.Batch{Ops: []store.Op{store.ForgetBackup{ID: id}}}); err != nil {
		t.Fatal(err)
	}
	if now, err := h.Destroy(t.Context(), addr, true, ""); err != nil || !now.Shredded || now.Destroyed == nil {
		t.Errorf("without the backup: %+v, %v", now, err)
	}
	if list, err := h.BALs(t.Context()); err != nil || len(list) != 1 || list[0].State != "destroyed" {
		t.Errorf("list %+v, %v", list, err)
	}
	// What was only recorded stands there with the next commit.
	if _, err := h.SetState(t.Context(), h.addBAL(t, "q@officines.example").BAL.Address, "closed", ""); err != nil {
		t.Fatal(err)
	}
	acts := strings.Join(actsOn(t, h.store, addr), ", ")
	for _, want := range []string{"bal close", "bal destroy, dry run", "bal destroy,", "bal wiped"} {
		if !strings.Contains(acts, want) {
			t.Errorf("the trace lacks %q: %s", want, acts)
		}
	}
}

func second[T any](_ T, err error) error { return err }
