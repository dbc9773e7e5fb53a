package storetest

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"

	"mssd/store"
)

const (
	fillBodies = 500 // bodies that all rows of a filled store share
	fillRows   = 500 // rows copied by one operation

	fillAddress store.Address = "modele@remplissage.example"
)

// Filling makes a store big, through its own operations: rows and prefix records are real, bodies are shared. Open
// the store with NoSync and without a time of grace; the filled BALs have no quota.
type Filling struct {
	s      *store.Store
	source store.Ref // holds fillBodies messages
}

// NewFilling stores the bodies, mails of about size octets, unless the store has them.
func NewFilling(t testing.TB, s *store.Store, size int) *Filling {
	t.Helper()
	if b, err := s.BAL(fillAddress); err == nil {
		in, err := s.Mailbox(b.ID, "INBOX")
		if err != nil {
			t.Fatal(err)
		}
		return &Filling{s, in.Ref}
	}
	b := AddBAL(t, s, fillAddress, store.ORG)
	in, err := s.Mailbox(b.ID, "INBOX")
	if err != nil {
		t.Fatal(err)
	}
	f := &Filling{s, in.Ref}
	trace := strings.Repeat("Received: from operator.example by bal.example with ESMTPS\r\n", 3)
	for i := range fillBodies {
		raw := fmt.Sprintf("From: Labo <labo@operator.example>\r\nSubject: essai %d\r\nMessage-ID: <%d@operator.example>\r\n\r\n", i, i)
		for j := 0; len(raw) < size; j++ {
			raw += fmt.Sprintf("Ligne %d du message %d, sans importance.\r\n", j, i)
		}
		blob := NewBlob(t, s, raw)
		if _, err := s.Commit(context.Background(), &store.Batch{Blob: blob,
			Ops: []store.Op{store.AddMessage{Ref: in.Ref, Prefix: []byte(trace), Delivery: true, Flags: store.Seen}}}); err != nil {
			t.Fatal(err)
		}
	}
	return f
}

// InBAL puts n messages into the INBOX of a BAL.
func (f *Filling) InBAL(t testing.TB, a store.Address, n int) {
	t.Helper()
	b, err := f.s.BAL(a)
	if err != nil {
		t.Fatal(err)
	}
	in, err := f.s.Mailbox(b.ID, "INBOX")
	if err == nil {
		err = f.into(in.Ref, n)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func (f *Filling) into(to store.Ref, n int) error {
	for n > 0 {
		b := &store.Batch{}
		for ; n > 0 && len(b.Ops) < 20; n -= fillRows {
			b.Ops = append(b.Ops, store.Copy{From: f.source, Runs: []store.Run{{First: 1, Count: uint32(min(n, fillRows))}}, To: to})
		}
		if _, err := f.s.Commit(context.Background(), b); err != nil {
			return err
		}
	}
	return nil
}

// BALs makes BALs from number first on, each with n messages in its INBOX.
func (f *Filling) BALs(t testing.TB, first, count, n int, p store.Progress) {
	t.Helper()
	var mu sync.Mutex
	var failed error
	done := 0
	next := make(chan int)
	var wg sync.WaitGroup
	for range 64 {
		wg.Go(func() {
			for i := range next {
				err := f.bal(fmt.Sprintf("b%06d@remplissage.example", i), n)
				mu.Lock()
				if done++; failed == nil {
					failed = err
				}
				if p != nil && done%1000 == 0 {
					p("BALs", int64(done), int64(count))
				}
				mu.Unlock()
			}
		})
	}
	for i := range max(count, 0) {
		next <- first + i
	}
	close(next)
	wg.Wait()
	if failed != nil {
		t.Fatal(failed)
	}
}

func (f *Filling) bal(addr string, n int) error {
	a := store.Address(addr)
	if _, err := f.s.Commit(context.Background(), &store.Batch{Ops: []store.Op{store.PutBAL{Create: true,
		BAL: store.BAL{Address: a, Kind: store.PER, State: store.Active, Listing: store.Published}}}}); err != nil {
		return err
	}
	b, err := f.s.BAL(a)
	if err != nil {
		return err
	}
	in, err := f.s.Mailbox(b.ID, "INBOX")
	if err != nil {
		return err
	}
	return f.into(in.Ref, n)
}
