package store_test

import (
	"path/filepath"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"

	"mssd/store"
	"mssd/store/storetest"
)

// TestStoreOfYesterday opens an index whose records lack the fields that were added at their ends, and which lacks
// the later buckets: all is there, and the next write is in the form of today.
func TestStoreOfYesterday(t *testing.T) {
	opt := store.Options{Dir: filepath.Join(t.TempDir(), "s"), Create: true, NoSync: true}
	s := storetest.Open(t, opt)
	b := storetest.AddBAL(t, s, "a@bal.example", store.ORG)
	in := box(t, s, b.ID, "INBOX").Ref
	date := time.Date(2020, 2, 3, 4, 5, 6, 0, time.UTC)
	add := store.AddMessage{Ref: in, Date: date}
	if _, err := s.Commit(ctx, &store.Batch{Blob: storetest.NewBlob(t, s, raw), Ops: []store.Op{add}}); err != nil {
		t.Fatal(err)
	}
	if r := rows(t, s, in)[0]; r.SaveDate.Equal(date) || time.Since(r.SaveDate) > time.Hour {
		t.Errorf("a new row came in at %v", r.SaveDate)
	}
	s.Close()

	db, err := bolt.Open(filepath.Join(opt.Dir, "index.db"), 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	err = db.Update(func(tx *bolt.Tx) error {
		for bucket, added := range map[string]int{"row": 8, "mailbox": 1, "bal": 47} {
			bk := tx.Bucket([]byte(bucket))
			old := map[string][]byte{}
			c := bk.Cursor()
			for k, v := c.First(); k != nil; k, v = c.Next() {
				old[string(k)] = append([]byte(nil), v[:len(v)-added]...)
			}
			for k, v := range old {
				if err := bk.Put([]byte(k), v); err != nil {
					return err
				}
			}
		}
		return tx.DeleteBucket([]byte("expunged"))
	})
	if err != nil {
		t.Fatal(err)
	}
	db.Close()

	s = storetest.Open(t, opt)
	storetest.Check(t, s)
	if r := rows(t, s, in); len(r) != 1 || !r[0].SaveDate.Equal(date) {
		t.Errorf("rows %+v; want one whose save date is its date", r)
	}
	do(t, s, store.Copy{From: in, Runs: one(1), To: in})
	s.Close()
	s = storetest.Open(t, opt)
	if r := rows(t, s, in); len(r) != 2 || !r[0].SaveDate.Equal(date) || time.Since(r[1].SaveDate) > time.Hour || !r[1].Date.Equal(date) {
		t.Errorf("rows %+v; want the second one saved now", r)
	}
}
