package store_test

import (
	"errors"
	"testing"

	"mssd/store"
	"mssd/store/storetest"
)

// TestCopyAll: with All a copy of a message that is gone copies nothing; without it, what is there.
func TestCopyAll(t *testing.T) {
	s := storetest.New(t)
	bal := storetest.AddBAL(t, s, "pharmacie@exemple.test", store.ORG)
	inbox, err := s.Mailbox(bal.ID, "INBOX")
	if err != nil {
		t.Fatal(err)
	}
	archive, err := s.Mailbox(bal.ID, "Archive")
	if err != nil {
		t.Fatal(err)
	}
	storetest.Deliver(t, s, bal.ID, "Subject: un\r\n\r\nun\r\n")
	op := store.Copy{From: inbox.Ref, Runs: []store.Run{{First: 1, Count: 2}}, To: archive.Ref, All: true}
	for _, c := range []struct {
		all  bool
		want error
		held uint32
	}{{true, store.ErrNoMessage, 0}, {false, nil, 1}} {
		op.All = c.all
		_, err := s.Commit(t.Context(), &store.Batch{Ops: []store.Op{op}})
		if !errors.Is(err, c.want) {
			t.Errorf("all %v: got %v, want %v", c.all, err, c.want)
		}
		if m, _ := s.MailboxByRef(archive.Ref); m.Messages != c.held {
			t.Errorf("all %v: the target holds %d messages, want %d", c.all, m.Messages, c.held)
		}
	}
}
