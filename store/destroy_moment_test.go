package store_test

import (
	"testing"

	"mssd/store"
)

// TestDestroyDuringMoment destroys a BAL while a backup is being made that is not registered yet: the moment has its key,
// so nobody is told that it is shredded.
func TestDestroyDuringMoment(t *testing.T) {
	d := newDoomed(t)
	s := d.open()
	d.setState(s, store.Closed)
	m, err := s.Moment(ctx, nil)
	d.must(err)
	defer m.Close()
	off, n := store.SlotPlace(d.bal)
	if string(m.Keys[off:off+n]) != string(d.slot) {
		t.Fatal("the moment has no key of the BAL: this tests nothing")
	}
	out, err := s.DestroyBAL(ctx, doomedAddr)
	d.must(err)
	if out.Shredded() || len(out.Backups) != 1 || out.Backups[0].ID != m.ID {
		t.Errorf("shredded %v, backups %+v; want the one that is being made", out.Shredded(), out.Backups)
	}
	do(t, s, store.PutBackup{Backup: store.Backup{ID: m.ID, Label: "/mnt/b", Began: m.Time, HighestBAL: m.HighestBAL}})
	again, err := s.Doom(doomedAddr)
	d.must(err)
	if len(again.Backups) != 1 || again.Backups[0].Label != "/mnt/b" {
		t.Errorf("registered, it is %+v; want it once", again.Backups)
	}
	do(t, s, store.ForgetBackup{ID: m.ID})
	d.must(m.Close())
	if again, err = s.Doom(doomedAddr); err != nil || !again.Shredded() {
		t.Errorf("forgotten and closed, it is %+v %v", again.Backups, err)
	}
}
