package store_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"mssd/store"
	"mssd/store/storetest"
)

// While a moment is kept no body that it names is removed, though its last message was expunged; afterwards it is. The
// copy of the index is that of the moment, and leaves no file behind.
func TestMomentKeepsBodies(t *testing.T) {
	s := storetest.New(t)
	bal := storetest.AddBAL(t, s, "pharmacie@test.mssante.fr", store.ORG)
	id, uid := storetest.Deliver(t, s, bal.ID, "Subject: x\r\n\r\nx\r\n")
	ctx := context.Background()
	m, err := s.Moment(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	later, _ := storetest.Deliver(t, s, bal.ID, "Subject: y\r\n\r\ny\r\n")
	inbox, err := s.Mailbox(bal.ID, "INBOX")
	if err != nil {
		t.Fatal(err)
	}
	runs := []store.Run{{First: uid, Count: 1}}
	if _, err := s.Commit(ctx, &store.Batch{Ops: []store.Op{store.StoreFlags{Ref: inbox.Ref, Runs: runs, Mode: store.Add, Flags: store.Deleted},
		store.Expunge{Ref: inbox.Ref, Runs: runs}}}); err != nil {
		t.Fatal(err)
	}
	sweep := func() {
		t.Helper()
		for range 3 {
			if err := s.SweepNow(); err != nil {
				t.Fatal(err)
			}
		}
	}
	sweep()
	b, err := m.Body(id, true, nil)
	if err != nil {
		t.Fatalf("the body of the moment: %v", err)
	}
	file, err := os.ReadFile(filepath.Join(s.Dir(), store.BodyFile(id)))
	if err != nil || sha256.Sum256(file) != b.Sum || b.Octets != int64(len(file)) {
		t.Errorf("body: %d octets, %v", b.Octets, err)
	}
	b.Close()
	if left, _ := filepath.Glob(filepath.Join(s.Dir(), "spool", "*")); len(left) > 0 {
		t.Errorf("in the spool: %v", left)
	}
	copied := filepath.Join(t.TempDir(), "index.db")
	f, err := os.Create(copied)
	if err != nil {
		t.Fatal(err)
	}
	h := sha256.New()
	if _, err := io.Copy(io.MultiWriter(f, h), io.NewSectionReader(m.Index(), 0, m.IndexSize)); err != nil {
		t.Fatal(err)
	}
	f.Close()
	if [32]byte(h.Sum(nil)) != m.IndexSum || store.SoundIndex(copied) != nil {
		t.Error("the copy of the index is not what it says")
	}
	var ids []store.MessageID
	if err := store.EachBody(ctx, copied, func(id store.MessageID, _ int64) error { ids = append(ids, id); return nil }); err != nil ||
		len(ids) != 1 || ids[0] != id || m.Messages != 1 || m.LastID != id {
		t.Errorf("bodies of the moment: %v %v, %+v; the one of %s came later", ids, err, m, later)
	}
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	sweep()
	if _, err := os.Stat(filepath.Join(s.Dir(), store.BodyFile(id))); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("after the moment the body stays: %v", err)
	}
}

// A disk without room for the copy of the index, or one that fails, refuses the moment and harms nothing.
func TestMomentRefused(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "store")
	s := storetest.Open(t, store.Options{Dir: dir, Create: true, SpaceFloor: 1 << 60})
	bal := storetest.AddBAL(t, s, "pharmacie@test.mssante.fr", store.ORG)
	if _, err := s.Moment(context.Background(), nil); !errors.Is(err, store.ErrNoSpace) {
		t.Errorf("without room: %v, want ErrNoSpace", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := s.Moment(ctx, nil); !errors.Is(err, context.Canceled) && !errors.Is(err, store.ErrNoSpace) {
		t.Errorf("given up: %v", err)
	}
	storetest.Deliver(t, s, bal.ID, "Subject: x\r\n\r\nx\r\n")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Moment(context.Background(), nil); err == nil {
		t.Error("a moment of a closed store")
	}
}

// A body that is too large for memory is read, summed and opened like others, and a changed octet of it is found.
func TestMomentLargeBody(t *testing.T) {
	s := storetest.New(t)
	bal := storetest.AddBAL(t, s, "pharmacie@test.mssante.fr", store.ORG)
	noise := make([]byte, 40<<20)
	rand.NewChaCha8([32]byte{7}).Read(noise)
	for i := range noise {
		noise[i] |= 0x80 // no line ends, nothing to parse
	}
	id, _ := storetest.Deliver(t, s, bal.ID, "Subject: x\r\n\r\n"+string(noise)+"\r\n")
	m, err := s.Moment(context.Background(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	path := filepath.Join(s.Dir(), store.BodyFile(id))
	file, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b, err := m.Body(id, true, nil)
	if err != nil || b.Sum != sha256.Sum256(file) || b.Octets != int64(len(file)) || b.Octets < 33<<20 {
		t.Fatalf("%d octets, %v; the file has %d", b.Octets, err, len(file))
	}
	if err := b.Close(); err != nil {
		t.Error(err)
	}
	file[30<<20] ^= 1
	if err := os.WriteFile(path, file, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := m.Body(id, true, nil); !errors.Is(err, store.ErrCorrupt) {
		t.Errorf("a changed body: %v, want ErrCorrupt", err)
	}
	if problems, err := s.VerifyBodies(context.Background(), nil); err != nil || len(problems) != 1 {
		t.Errorf("VerifyBodies: %v %v, want one problem", problems, err)
	}
	file[30<<20] ^= 1
	if err := os.WriteFile(path, file, 0o600); err != nil {
		t.Fatal(err)
	}
}
