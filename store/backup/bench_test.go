package backup_test

import (
	"context"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"mssd/store"
	"mssd/store/backup"
	"mssd/store/storetest"
)

// BenchmarkBackup makes a store of 1,000 letters of 200 KB that do not compress and 4,000 of 5 KB, and says how fast a
// first run is, one that finds nothing new, reading through, and restoring with a rehearsal.
func BenchmarkBackup(b *testing.B) {
	root := b.TempDir()
	key := filepath.Join(root, "master.key")
	if err := store.MakeMasterKey(key); err != nil {
		b.Fatal(err)
	}
	s, err := store.Open(store.Options{Dir: filepath.Join(root, "store"), MasterKey: key, Create: true, NoSync: true})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	bal := storetest.AddBAL(b, s, "grande@bench.test", store.ORG)
	rnd := rand.NewChaCha8([32]byte{1})
	deliver := func(count, size int) {
		noise := make([]byte, size)
		for range count {
			_, _ = rnd.Read(noise)
			for i := range noise {
				noise[i] |= 0x80 // no line ends, nothing to parse
			}
			storetest.Deliver(b, s, bal.ID, "Subject: x\r\nContent-Type: application/octet-stream\r\n\r\n"+string(noise)+"\r\n")
		}
	}
	deliver(1000, 200_000)
	deliver(4000, 5000)
	for b.Loop() {
		dir := filepath.Join(root, "backup")
		if err := os.RemoveAll(dir); err != nil {
			b.Fatal(err)
		}
		d, err := backup.Open(dir, backup.Create)
		if err != nil {
			b.Fatal(err)
		}
		ctx := context.Background()
		step := func(name string, fn func() (int64, error)) {
			began := time.Now()
			n, err := fn()
			if err != nil {
				b.Fatal(err)
			}
			took := time.Since(began)
			b.Logf("%s: %v, %.0f MB/s", name, took.Round(time.Millisecond), float64(n)/1e6/took.Seconds())
		}
		run := func(opt backup.Options) func() (int64, error) {
			return func() (int64, error) {
				r, err := backup.Run(ctx, backup.Local{Store: s}, d, opt)
				return r.NewOctets, err
			}
		}
		step("first run", run(backup.Options{}))
		step("nothing new", run(backup.Options{}))
		step("nothing new, verify all", run(backup.Options{VerifyAll: true}))
		step("verify", func() (int64, error) {
			v, err := backup.Verify(ctx, d, "", key, nil)
			return v.Octets, err
		})
		step("rehearsal", func() (int64, error) {
			r, err := backup.Restore(ctx, d, backup.RestoreOptions{To: filepath.Join(root, "to"), MasterKey: key, Rehearse: true})
			return r.Octets, err
		})
		d.Close()
	}
}
