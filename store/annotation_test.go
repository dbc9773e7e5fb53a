package store_test

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	bolt "go.etcd.io/bbolt"

	"mssd/store"
	"mssd/store/storetest"
)

func annotation(r store.Ref, person, entry, value string) store.PutAnnotation {
	return store.PutAnnotation{Ref: r, Remove: value == "", Annotation: store.Annotation{Person: person, Entry: entry, Value: value}}
}

func wantAnnotations(t *testing.T, s *store.Store, r store.Ref, person string, want ...string) {
	t.Helper()
	list, err := s.Annotations(r, person)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]bool{}
	for _, a := range list {
		got[a.Person+a.Entry+"="+a.Value] = true
	}
	wanted := map[string]bool{}
	for _, w := range want {
		wanted[w] = true
	}
	if d := cmp.Diff(wanted, got); d != "" {
		t.Errorf("annotations for %q (-want +got):\n%s", person, d)
	}
}

// TestAnnotations: each person has their own, all have the shared ones; they follow a mailbox through RENAME, survive a restart,
// and go with the mailbox.
func TestAnnotations(t *testing.T) {
	opt := store.Options{Dir: filepath.Join(t.TempDir(), "s"), Create: true}
	s := storetest.Open(t, opt)
	b := storetest.AddBAL(t, s, "a@bal.example", store.ORG)
	do(t, s, store.CreateMailbox{BAL: b.ID, Name: "Patients"})
	r, all := box(t, s, b.ID, "Patients").Ref, store.Ref{BAL: b.ID}
	do(t, s, annotation(r, "", "/comment", "commun"), annotation(r, "local:anne", "/comment", "à moi"), annotation(r, "local:luc", "/comment", "à lui"),
		annotation(all, "local:anne", "/comment", "partout"))
	wantAnnotations(t, s, r, "local:anne", "/comment=commun", "local:anne/comment=à moi")
	wantAnnotations(t, s, r, "local:x", "/comment=commun")
	wantAnnotations(t, s, all, "local:anne", "local:anne/comment=partout")
	wantAnnotations(t, s, all, "local:luc")
	do(t, s, annotation(r, "", "/comment", "autre"), annotation(r, "local:anne", "/comment", ""), annotation(r, "local:anne", "/never", ""))
	do(t, s, store.RenameMailbox{Ref: r, To: "Anciens"})
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	opt.Create = false
	s = storetest.Open(t, opt)
	wantAnnotations(t, s, r, "local:luc", "/comment=autre", "local:luc/comment=à lui")
	wantAnnotations(t, s, r, "local:anne", "/comment=autre")
	do(t, s, store.DeleteMailbox{Ref: r})
	wantAnnotations(t, s, r, "local:luc")
	wantAnnotations(t, s, all, "local:anne", "local:anne/comment=partout")
	if _, err := s.Commit(ctx, &store.Batch{Ops: []store.Op{annotation(r, "", "/comment", "x")}}); !errors.Is(err, store.ErrNoMailbox) {
		t.Errorf("on a mailbox that is gone: %v", err)
	}
	if _, err := s.Annotations(store.Ref{BAL: 99}, ""); !errors.Is(err, store.ErrNoBAL) {
		t.Errorf("of no BAL: %v", err)
	}
}

// TestAnnotationBounds: what is refused leaves nothing of its batch.
func TestAnnotationBounds(t *testing.T) {
	s := storetest.Open(t, store.Options{Dir: filepath.Join(t.TempDir(), "s"), Create: true, NoSync: true})
	b := storetest.AddBAL(t, s, "a@bal.example", store.ORG)
	in, all := box(t, s, b.ID, "INBOX").Ref, store.Ref{BAL: b.ID}
	long := strings.Repeat("x", store.MaxAnnotation)
	for _, c := range []struct {
		name, entry, value string
		want               error
	}{
		{"value too long", "/comment", long + "x", store.ErrTooLong}, {"no path", "", "x", store.ErrInvalid}, {"root", "/", "x", store.ErrInvalid},
		{"not from the root", "comment", "x", store.ErrInvalid}, {"slash at the end", "/a/", "x", store.ErrInvalid}, {"empty level", "/a//b", "x", store.ErrInvalid},
		{"wildcard", "/a*", "x", store.ErrInvalid}, {"percent", "/a%", "x", store.ErrInvalid}, {"not lower case", "/A", "x", store.ErrInvalid},
		{"not ASCII", "/é", "x", store.ErrInvalid}, {"control", "/a\n", "x", store.ErrInvalid}, {"path too long", "/" + strings.Repeat("a", 255), "x", store.ErrInvalid},
	} {
		_, err := s.Commit(ctx, &store.Batch{Ops: []store.Op{annotation(in, "", "/first", "x"), annotation(in, "", c.entry, c.value)}})
		if !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
	wantAnnotations(t, s, in, "")
	put := func(r store.Ref, n int) error {
		_, err := s.Commit(ctx, &store.Batch{Ops: []store.Op{annotation(r, "", fmt.Sprintf("/vendor/%d", n), long)}})
		return err
	}
	n := 0
	for ; n < 1000 && put(in, n) == nil; n++ {
	}
	if err := put(in, n); n != 200 || !errors.Is(err, store.ErrTooMany) {
		t.Errorf("%d annotations of a mailbox were taken, then %v", n, err)
	}
	if err := put(in, 0); err != nil {
		t.Errorf("one that is there, in a full mailbox: %v", err)
	}
	for n = 0; n < 1000 && put(all, n) == nil; n++ {
	}
	if err := put(all, n); n < 40 || n > 60 || !errors.Is(err, store.ErrTooMany) { // 1 MiB of all
		t.Errorf("%d annotations of the BAL more were taken, then %v", n, err)
	}
}

// TestAnnotationShare: one person does not take the room of the others.
func TestAnnotationShare(t *testing.T) {
	s := storetest.Open(t, store.Options{Dir: filepath.Join(t.TempDir(), "s"), Create: true, NoSync: true})
	b := storetest.AddBAL(t, s, "a@bal.example", store.ORG)
	in, sent, all := box(t, s, b.ID, "INBOX").Ref, box(t, s, b.ID, "Sent").Ref, store.Ref{BAL: b.ID}
	put := func(r store.Ref, person, value string, n int) error {
		_, err := s.Commit(ctx, &store.Batch{Ops: []store.Op{annotation(r, person, fmt.Sprintf("/vendor/%d", n), value)}})
		return err
	}
	fill := func(r store.Ref, value string) (n int, err error) {
		for ; n < 1000 && err == nil; n++ {
			err = put(r, "local:avide", value, n)
		}
		return n - 1, err
	}
	if n, err := fill(in, "x"); n != 50 || !errors.Is(err, store.ErrTooMany) {
		t.Errorf("%d of one person in a mailbox, then %v", n, err)
	}
	if n, err := fill(all, strings.Repeat("x", 4000)); n != 50 || !errors.Is(err, store.ErrTooMany) {
		t.Errorf("%d of one person beside no mailbox, then %v", n, err)
	}
	if n, err := fill(sent, strings.Repeat("x", 4000)); n < 8 || n > 16 || !errors.Is(err, store.ErrTooMany) { // 256 KiB in all
		t.Errorf("%d long ones more, then %v", n, err)
	}
	for _, person := range []string{"", "local:anne"} {
		for _, r := range []store.Ref{in, sent, all} {
			if err := put(r, person, strings.Repeat("x", 4000), 1); err != nil {
				t.Errorf("%q after that: %v", person, err)
			}
		}
	}
	if err := put(in, "local:avide", "y", 3); err != nil {
		t.Errorf("one that is there: %v", err)
	}
}

// TestAnnotationDamage: Check names a record that does not open or belongs nowhere, Repair sets it aside and keeps the others.
func TestAnnotationDamage(t *testing.T) {
	for name, change := range map[string]func(b *bolt.Bucket, k, v []byte) error{
		"octet":     func(b *bolt.Bucket, k, v []byte) error { v[len(v)-1] ^= 1; return b.Put(k, v) },
		"cut":       func(b *bolt.Bucket, k, v []byte) error { return b.Put(k, v[:10]) },
		"elsewhere": func(b *bolt.Bucket, k, v []byte) error { k[23] ^= 1; return b.Put(k, v) },
		"mailbox":   func(b *bolt.Bucket, k, v []byte) error { k[7] = 99; return b.Put(k, v) },
		"BAL":       func(b *bolt.Bucket, k, v []byte) error { k[3] = 99; return b.Put(k, v) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "s")
			s, err := store.Open(store.Options{Dir: dir, Create: true, NoSync: true})
			if err != nil {
				t.Fatal(err)
			}
			b := storetest.AddBAL(t, s, "a@bal.example", store.ORG)
			in := box(t, s, b.ID, "INBOX").Ref
			do(t, s, annotation(store.Ref{BAL: b.ID}, "", "/kept", "x"), annotation(in, "", "/comment", "x"))
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			changeIndex(t, dir, func(tx *bolt.Tx) error {
				bucket := tx.Bucket([]byte("annotation"))
				k, v := bucket.Cursor().Last()
				k, v = append([]byte{}, k...), append([]byte{}, v...)
				if err := bucket.Delete(k); err != nil {
					return err
				}
				return change(bucket, k, v)
			})
			opt := store.Options{Dir: dir, NoSync: true}
			wantProblem(t, opt, 17)
			out, err := store.Repair(ctx, store.RepairOptions{Dir: dir})
			if err != nil || out.Aside != 1 {
				t.Fatalf("%+v, %v", out, err)
			}
			s = storetest.Open(t, opt)
			wantAnnotations(t, s, store.Ref{BAL: b.ID}, "", "/kept=x")
			wantAnnotations(t, s, in, "")
		})
	}
}
