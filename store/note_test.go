package store_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"mssd/store"
	"mssd/store/storetest"
	"mssd/trace"
)

// TestNote: an event of an act on a stopped store is in its trace; a store in use, or one whose index is damaged, is not
// touched.
func TestNote(t *testing.T) {
	opt := store.Options{Dir: filepath.Join(t.TempDir(), "s"), Create: true}
	s := storetest.Open(t, opt)
	deliverTo(t, s, letterTo(1), storetest.AddBAL(t, s, "a@bal.example", store.ORG))
	e := trace.Event{Kind: trace.Admin, Person: "unix:anne", Attrs: []trace.Attr{{Key: trace.KeyAct, Value: "keys rotate"}}}
	if err := store.Note(opt.Dir, e); !errors.Is(err, store.ErrLocked) {
		t.Errorf("beside a daemon: %v, want ErrLocked", err)
	}
	commits := s.Commits()
	s.Close()
	if err := store.Note(opt.Dir, e); err != nil {
		t.Fatal(err)
	}
	var last trace.Event
	if whole, err := store.EventsSince(opt.Dir, 0, func(e trace.Event) { last = e }); err != nil || !whole {
		t.Fatal(whole, err)
	}
	if last.Person != e.Person || last.Attr(trace.KeyAct) != "keys rotate" || last.Time.IsZero() {
		t.Errorf("the last event is %+v", last)
	}
	s = storetest.Open(t, opt)
	if s.Commits() <= commits {
		t.Errorf("commit %d after commit %d", s.Commits(), commits)
	}
	s.Close()
	index := filepath.Join(opt.Dir, "index.db")
	if err := os.Truncate(index, 12<<10); err != nil {
		t.Fatal(err)
	}
	before, _ := os.ReadFile(index)
	if err := store.Note(opt.Dir, e); !errors.Is(err, store.ErrCorrupt) {
		t.Errorf("with a damaged index: %v, want ErrCorrupt", err)
	}
	if after, _ := os.ReadFile(index); !bytes.Equal(before, after) {
		t.Error("a damaged index was written to")
	}
	if err := os.Remove(index); err != nil {
		t.Fatal(err)
	}
	if err := store.Note(opt.Dir, e); err == nil {
		t.Error("without an index: no error")
	}
	if _, err := os.Stat(index); err == nil {
		t.Error("an index was made")
	}
}
