package store_test

import (
	"errors"
	"sync"
	"testing"
	"time"

	"mssd/store"
	"mssd/store/storetest"
)

const ownedBAL store.Address = "pharmacie@bal.example"

// owned is a BAL with the members given.
func owned(t *testing.T, members ...store.Member) *store.Store {
	t.Helper()
	s := storetest.Open(t, store.Options{Dir: t.TempDir() + "/s", Create: true, NoSync: true})
	storetest.AddBAL(t, s, ownedBAL, store.ORG)
	for _, m := range members {
		if _, err := s.Commit(ctx, &store.Batch{Ops: []store.Op{store.PutMember{Address: ownedBAL, Member: m}}}); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

func byOwner(s *store.Store, by string, act store.MemberAct, m store.Member) error {
	_, err := s.Commit(ctx, &store.Batch{Ops: []store.Op{store.MemberByOwner{Address: ownedBAL, By: by, Act: act, Member: m}}})
	return err
}

// What owners may do with members is decided by what stands at that moment; what is refused changes nothing.
func TestMemberByOwner(t *testing.T) {
	soon, later := time.Now().Add(time.Hour), time.Now().Add(48*time.Hour)
	anne := store.Member{ID: "rpps:99900000052", Role: store.Owner}
	cases := []struct {
		name    string
		members []store.Member
		by      string
		act     store.MemberAct
		member  store.Member
		want    error
	}{
		{"adds a reader", []store.Member{anne}, anne.ID, store.AddMember, store.Member{ID: "local:x", Role: store.Reader}, nil},
		{"adds who ended", []store.Member{anne, {ID: "local:x", Role: store.Writer, Ended: true}}, anne.ID, store.AddMember, store.Member{ID: "local:x", Role: store.Reader}, nil},
		{"adds who is there", []store.Member{anne, {ID: "local:x", Role: store.Writer}}, anne.ID, store.AddMember, store.Member{ID: "local:x", Role: store.Reader}, store.ErrMemberExists},
		{"changes nobody", []store.Member{anne}, anne.ID, store.ChangeMember, store.Member{ID: "local:x", Role: store.Reader}, store.ErrNoMember},
		{"changes who ended", []store.Member{anne, {ID: "local:x", Role: store.Writer, Ended: true}}, anne.ID, store.ChangeMember, store.Member{ID: "local:x", Role: store.Reader}, store.ErrNoMember},
		{"ends nobody", []store.Member{anne}, anne.ID, store.DropMember, store.Member{ID: "local:x"}, store.ErrNoMember},
		{"is a writer", []store.Member{anne, {ID: "local:w", Role: store.Writer}}, "local:w", store.AddMember, store.Member{ID: "local:x", Role: store.Reader}, store.ErrNotOwner},
		{"is nobody", []store.Member{anne}, "local:n", store.AddMember, store.Member{ID: "local:x", Role: store.Reader}, store.ErrNotOwner},
		{"is an owner no more", []store.Member{anne, {ID: "local:o", Role: store.Owner, Ended: true}}, "local:o", store.AddMember, store.Member{ID: "local:x", Role: store.Reader}, store.ErrNotOwner},
		{"is an owner not yet", []store.Member{anne, {ID: "local:o", Role: store.Owner, From: soon}}, "local:o", store.AddMember, store.Member{ID: "local:x", Role: store.Reader}, store.ErrNotOwner},
		{"ends herself, the last", []store.Member{anne}, anne.ID, store.DropMember, store.Member{ID: anne.ID}, store.ErrLastOwner},
		{"lowers herself, the last", []store.Member{anne}, anne.ID, store.ChangeMember, store.Member{ID: anne.ID, Role: store.Writer}, store.ErrLastOwner},
		{"begins later, the last", []store.Member{anne}, anne.ID, store.ChangeMember, store.Member{ID: anne.ID, Role: store.Owner, From: soon}, store.ErrLastOwner},
		{"gives herself an end, the last", []store.Member{anne}, anne.ID, store.ChangeMember, store.Member{ID: anne.ID, Role: store.Owner, Until: later}, store.ErrLastOwner},
		{"ends herself, the other ends too", []store.Member{anne, {ID: "local:o", Role: store.Owner, Until: later}}, anne.ID, store.DropMember, store.Member{ID: anne.ID}, store.ErrLastOwner},
		{"ends herself, the other is there", []store.Member{anne, {ID: "local:o", Role: store.Owner}}, anne.ID, store.DropMember, store.Member{ID: anne.ID}, nil},
		{"the other begins later", []store.Member{anne, {ID: "local:o", Role: store.Owner, From: soon}}, anne.ID, store.DropMember, store.Member{ID: anne.ID}, store.ErrLastOwner},
		{"ends the other", []store.Member{anne, {ID: "local:o", Role: store.Owner}}, anne.ID, store.DropMember, store.Member{ID: "local:o"}, nil},
		{"an owner for two days ends a writer", []store.Member{{ID: "local:o", Role: store.Owner, Until: later}, {ID: "local:w", Role: store.Writer}}, "local:o", store.DropMember, store.Member{ID: "local:w"}, nil},
		{"no such act", []store.Member{anne}, anne.ID, 9, store.Member{ID: anne.ID}, store.ErrInvalid},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			s := owned(t, c.members...)
			b, err := s.BAL(ownedBAL)
			if err != nil {
				t.Fatal(err)
			}
			before := s.Members(b.ID)
			if err := byOwner(s, c.by, c.act, c.member); !errors.Is(err, c.want) {
				t.Fatalf("%v, want %v", err, c.want)
			}
			after := s.Members(b.ID)
			same := len(before) == len(after)
			for i := range after {
				same = same && after[i] == before[i]
			}
			if same != (c.want != nil) {
				t.Errorf("members were %v and are %v", before, after)
			}
		})
	}
}

// The password of a member stays when an owner changes the role, and nothing is done in a BAL that is suspended.
func TestMemberByOwnerKeepsPassword(t *testing.T) {
	s := owned(t, store.Member{ID: "local:o", Role: store.Owner}, store.Member{ID: "local:x", Role: store.Writer, PasswordHash: "hash", SCRAM: "verifier"})
	if err := byOwner(s, "local:o", store.ChangeMember, store.Member{ID: "local:x", Role: store.Reader, PasswordHash: "other", SCRAM: "other"}); err != nil {
		t.Fatal(err)
	}
	b, err := s.BAL(ownedBAL)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range s.Members(b.ID) {
		if m.ID == "local:x" && (m.PasswordHash != "hash" || m.SCRAM != "verifier" || m.Role != store.Reader) {
			t.Errorf("changed to %v, password kept: %t", m, m.PasswordHash == "hash")
		}
	}
	if _, err := s.Commit(ctx, &store.Batch{Ops: []store.Op{store.SetBALState{Address: ownedBAL, State: store.Suspended}}}); err != nil {
		t.Fatal(err)
	}
	if err := byOwner(s, "local:o", store.DropMember, store.Member{ID: "local:x"}); !errors.Is(err, store.ErrNotOwner) {
		t.Errorf("in a suspended BAL: %v", err)
	}
}

// Two owners who end each other at the same moment: one of them stays.
func TestOwnersEndEachOther(t *testing.T) {
	for range 20 {
		s := owned(t, store.Member{ID: "local:a", Role: store.Owner}, store.Member{ID: "local:b", Role: store.Owner})
		var wg sync.WaitGroup
		errs := make([]error, 2)
		for i, pair := range [][2]string{{"local:a", "local:b"}, {"local:b", "local:a"}} {
			wg.Go(func() { errs[i] = byOwner(s, pair[0], store.DropMember, store.Member{ID: pair[1]}) })
		}
		wg.Wait()
		if (errs[0] == nil) == (errs[1] == nil) {
			t.Fatalf("%v and %v, want one of them done", errs[0], errs[1])
		}
	}
}
