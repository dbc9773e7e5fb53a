package store_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"mssd/store"
	"mssd/store/storetest"
)

// flipKeys alters one octet of the file of the keys.
func flipKeys(t *testing.T, dir string, off int64) {
	t.Helper()
	path := filepath.Join(dir, "keys")
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b[off] ^= 1
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestRecover loses the master key: the recovery key brings everything back, but for a BAL whose wrap was altered; one
// that belongs elsewhere brings nothing and changes nothing.
func TestRecover(t *testing.T) {
	k := newKeysStore(t)
	slot, _ := store.SlotPlace(k.bal)
	if err := os.Remove(k.opt.MasterKey); err != nil {
		t.Fatal(err)
	}
	keys := filepath.Join(k.opt.Dir, "keys")
	before, err := os.ReadFile(keys)
	k.must(err)
	other := filepath.Join(filepath.Dir(k.next), "other.private")
	for name, private := range map[string]string{"another key": other, "a public one": k.other, "a master key": k.next, "none": "nowhere"} {
		if _, _, err := store.Recover(k.opt.Dir, private, k.next); !errors.Is(err, store.ErrRecoveryKey) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if after, err := os.ReadFile(keys); err != nil || !bytes.Equal(before, after) {
		t.Errorf("a refused recovery changed the keys: %v", err)
	}
	damaged := k.copy(t)
	k.opt.MasterKey = k.next
	if n, lost, err := store.Recover(k.opt.Dir, k.private, k.next); n != 3 || len(lost) > 0 || err != nil {
		t.Errorf("%d opened, lost %v, %v", n, lost, err)
	}
	k.reads(k.next)

	// An octet of the wrap, of the address, of the kind: the seal covers them all.
	for off, what := range map[int64]string{80: "encapsulated key", 120: "sealed key", 156: "address", 1: "kind", 12: "date"} {
		c := damaged.copy(t)
		flipKeys(t, c.opt.Dir, slot+off)
		n, lost, err := store.Recover(c.opt.Dir, c.private, c.next)
		if n != 2 || len(lost) != 1 || lost[0].Number != uint32(k.bal) || err != nil {
			t.Errorf("%s: %d opened, lost %v, %v", what, n, lost, err)
		}
		c.opt.MasterKey = c.next
		s, err := store.Open(c.opt)
		c.must(err)
		if _, err := s.BAL("a@bal.example"); !errors.Is(err, store.ErrUnavailable) {
			t.Errorf("%s: the BAL without a key: %v", what, err)
		}
		b, err := s.BAL("b@bal.example")
		c.must(err)
		storetest.Deliver(t, s, b.ID, raw)
		c.must(s.Close())
	}
	// Who alters the head keeps nobody from a recovery, and the head is right again afterwards.
	c := damaged.copy(t)
	flipKeys(t, c.opt.Dir, 40)
	flipKeys(t, c.opt.Dir, 500)
	if n, lost, err := store.Recover(c.opt.Dir, c.private, c.next); n != 3 || len(lost) > 0 || err != nil {
		t.Errorf("altered head: %d opened, lost %v, %v", n, lost, err)
	}
	list, err := store.Keys(c.opt.Dir, c.next)
	c.must(err)
	if list.HeadErr != nil || list.Recovery == "" {
		t.Errorf("%+v", list)
	}
	c.reads(c.next)
	c = damaged.copy(t)
	flipKeys(t, c.opt.Dir, 512+80)
	if _, _, err := store.Recover(c.opt.Dir, c.private, c.next); !errors.Is(err, store.ErrCorrupt) {
		t.Errorf("without the key of the store: %v", err)
	}
}

// TestForeignRecoveryKey puts another recovery key into the head, as who can write to the disk could: no new BAL is
// given to it, and setting the right one mends the file.
func TestForeignRecoveryKey(t *testing.T) {
	k := newKeysStore(t)
	public := filepath.Join(filepath.Dir(k.next), "recovery.public")
	foreign := k.copy(t)
	k.must(store.SetRecovery(foreign.opt.Dir, foreign.opt.MasterKey, foreign.other))
	from, err := os.ReadFile(filepath.Join(foreign.opt.Dir, "keys"))
	k.must(err)
	keys := filepath.Join(k.opt.Dir, "keys")
	to, err := os.ReadFile(keys)
	k.must(err)
	copy(to[32:72], from[32:72])
	k.must(os.WriteFile(keys, to, 0o600))

	list, err := store.Keys(k.opt.Dir, k.opt.MasterKey)
	k.must(err)
	if !errors.Is(list.HeadErr, store.ErrCorrupt) {
		t.Errorf("list: %v", list.HeadErr)
	}
	s, err := store.Open(k.opt)
	k.must(err)
	create := store.PutBAL{Create: true, BAL: store.BAL{Address: "c@bal.example", Kind: store.ORG, State: store.Active, Listing: store.Published}}
	if _, err := s.Commit(ctx, &store.Batch{Ops: []store.Op{create}}); !errors.Is(err, store.ErrCorrupt) || !strings.Contains(err.Error(), "recovery-set") {
		t.Errorf("a BAL was made: %v", err)
	}
	storetest.Deliver(t, s, k.bal, raw)
	k.must(s.Close())
	wantProblem(t, k.opt, 15)
	if err := store.Rekey(k.opt.Dir, k.opt.MasterKey, k.next); !errors.Is(err, store.ErrCorrupt) {
		t.Errorf("rotation: %v", err)
	}
	k.must(store.SetRecovery(k.opt.Dir, k.opt.MasterKey, public))
	s = storetest.Open(t, k.opt)
	storetest.AddBAL(t, s, "c@bal.example", store.ORG)
	list, err = store.Keys(k.opt.Dir, k.opt.MasterKey)
	k.must(err)
	for _, slot := range list.Slots {
		if !slot.Recovery || slot.Err != nil {
			t.Errorf("%+v", slot)
		}
	}
}

// TestKeyFilesAreWhole: files of keys are readable by their owner only and never written over.
func TestKeyFilesAreWhole(t *testing.T) {
	dir := t.TempDir()
	private, public := filepath.Join(dir, "p"), filepath.Join(dir, "q")
	if _, err := store.MakeRecoveryKey(private, public); err != nil {
		t.Fatal(err)
	}
	before, _ := os.ReadFile(private)
	if _, err := store.MakeRecoveryKey(private, filepath.Join(dir, "r")); !errors.Is(err, os.ErrExist) {
		t.Errorf("private file: %v", err)
	}
	if _, err := store.MakeRecoveryKey(filepath.Join(dir, "s"), public); !errors.Is(err, os.ErrExist) {
		t.Errorf("public file: %v", err)
	}
	if after, _ := os.ReadFile(private); !bytes.Equal(before, after) {
		t.Error("a key was overwritten")
	}
	names, err := os.ReadDir(dir)
	if err != nil || len(names) != 2 {
		t.Errorf("%v, %v", names, err)
	}
	for _, n := range names {
		if st, err := n.Info(); err != nil || st.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", n.Name(), st.Mode(), err)
		}
	}
}

// A destroyed BAL has no key that a recovery could open: it is neither counted nor told as lost.
func TestRecoverAfterDestroy(t *testing.T) {
	k := newKeysStore(t)
	s, err := store.Open(k.opt)
	k.must(err)
	const address = "a@bal.example"
	_, err = s.Commit(t.Context(), &store.Batch{Ops: []store.Op{store.SetBALState{Address: address, State: store.Closed}}})
	k.must(err)
	_, err = s.DestroyBAL(t.Context(), address)
	k.must(err)
	k.must(s.FinishDestroying(t.Context()))
	k.must(s.Close())
	k.must(os.Remove(k.opt.MasterKey))
	if n, lost, err := store.Recover(k.opt.Dir, k.private, k.next); n != 2 || len(lost) > 0 || err != nil {
		t.Errorf("%d keys opened, lost %v, %v; want the store's and that of one BAL", n, lost, err)
	}
}
