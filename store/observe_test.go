package store_test

import (
	"context"
	"errors"
	"sync"
	"testing"

	"mssd/store"
	"mssd/store/storetest"
	"mssd/trace"
)

// Observe hears of what is durable, in order, and never of a batch that was refused.
func TestObserve(t *testing.T) {
	var mu sync.Mutex
	var heard []string
	s := storetest.Open(t, store.Options{Dir: t.TempDir(), Create: true, Observe: func(e trace.Event) {
		mu.Lock()
		defer mu.Unlock()
		heard = append(heard, e.Attr(trace.KeyAct))
	}})
	put := func(act string, create bool) error {
		_, err := s.Commit(context.Background(), &store.Batch{
			Events: []trace.Event{{Kind: trace.Admin, Attrs: []trace.Attr{{Key: trace.KeyAct, Value: act}}}},
			Ops:    []store.Op{store.PutBAL{BAL: store.BAL{Address: "a@b.example", Kind: store.ORG, State: store.Active, Listing: store.Published}, Create: create}},
		})
		return err
	}
	if err := put("first", true); err != nil {
		t.Fatal(err)
	}
	if err := put("refused", true); !errors.Is(err, store.ErrBALExists) {
		t.Fatal(err)
	}
	if err := put("second", false); err != nil {
		t.Fatal(err)
	}
	mu.Lock()
	defer mu.Unlock()
	if len(heard) != 2 || heard[0] != "first" || heard[1] != "second" {
		t.Errorf("heard %q, want first and second", heard)
	}
}
