package backup_test

import (
	"context"
	"path/filepath"
	"testing"

	"mssd/store"
	"mssd/store/backup"
	"mssd/store/storetest"
)

// What belongs to people comes back with the mail: how they log in, and what they wrote beside their mailboxes.
func TestRestoreOfPeople(t *testing.T) {
	w := newWorld(t)
	b := w.bals[0]
	inbox, err := w.s.Mailbox(b.ID, "INBOX")
	must(t, err)
	anne := store.Member{ID: "local:anne", Role: store.Writer, PasswordHash: "$argon2id$invented", SCRAM: "SCRAM-SHA-256$invented"}
	notes := []store.PutAnnotation{
		{Ref: inbox.Ref, Annotation: store.Annotation{Entry: "/comment", Value: "de tous"}},
		{Ref: inbox.Ref, Annotation: store.Annotation{Person: anne.ID, Entry: "/comment", Value: "d'Anne"}},
		{Ref: store.Ref{BAL: b.ID}, Annotation: store.Annotation{Person: anne.ID, Entry: "/vendor/x", Value: "de la BAL"}},
	}
	batch := &store.Batch{Ops: []store.Op{store.PutMember{Address: b.Address, Member: anne}}}
	for _, n := range notes {
		batch.Ops = append(batch.Ops, n)
	}
	_, err = w.s.Commit(context.Background(), batch)
	must(t, err)
	w.deliver(1)
	w.backup(backup.Options{})
	must(t, w.s.Close())
	to := filepath.Join(t.TempDir(), "restored")
	_, err = w.restore(backup.RestoreOptions{To: to})
	must(t, err)

	s := storetest.Open(t, store.Options{Dir: to, MasterKey: w.key})
	found := false
	for _, m := range s.Members(b.ID) {
		found = found || m == anne
	}
	if !found {
		t.Errorf("members %v", s.Members(b.ID))
	}
	for _, n := range notes {
		list, err := s.Annotations(n.Ref, anne.ID)
		must(t, err)
		found := false
		for _, a := range list {
			found = found || a == n.Annotation
		}
		if !found {
			t.Errorf("%+v is not among %+v", n.Annotation, list)
		}
	}
	storetest.Check(t, s)
}
