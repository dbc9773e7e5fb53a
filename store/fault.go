package store

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	bolt "go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"
)

// The databases are mapped into memory: a page that the disk cannot read, or a file that was cut short, is a fault of
// the processor (SIGBUS), and a page that holds nonsense makes bbolt panic. Every access is made through a guard, which
// turns both into an error. A database that was caught once is not used again, and not even closed where bbolt went
// down with its own locks held.

// waysOut is what an operator can do about a damaged index.
const waysOut = "stop mssd and restore the store from a backup, or mend it with mssd fsck --repair; " +
	"where neither works, mssd fsck --rebuild makes INBOX again from the bodies alone"

// guard watches over one database. Set name and lost, then use it.
type guard struct {
	name string
	lost func(error) // told once
	bad  atomic.Bool
	once sync.Once
	err  error // set, and told, before bad
	// stuck: bbolt fell where it holds locks, closing it would wait for ever.
	stuck atomic.Bool

	// ends is held while a reading transaction begins or ends. bbolt reads the head of the file with a lock held: who
	// falls there must not leave others waiting for it.
	ends sync.Mutex
}

// check is the reason why the database is not to be used, nil while it is sound.
func (g *guard) check() error {
	if g.bad.Load() {
		return g.err
	}
	return nil
}

func (g *guard) give(what any) error {
	g.once.Do(func() {
		g.err = fmt.Errorf("%w: %s: %v", ErrCorrupt, g.name, what)
		if g.lost != nil { // first: who finds it bad may make something of it that says less
			g.lost(g.err)
		}
		g.bad.Store(true)
	})
	return g.err
}

// run calls fn, which may use the database.
func (g *guard) run(fn func() error) (err error) {
	if err := g.check(); err != nil {
		return err
	}
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			if !isDamage(r) {
				panic(r)
			}
			err = g.give(r)
		}
	}()
	if err = fn(); errors.Is(err, berrors.ErrDatabaseNotOpen) {
		return ErrClosed
	}
	return err
}

// view runs fn in a reading transaction.
func (g *guard) view(db *bolt.DB, fn func(*bolt.Tx) error) error {
	return g.run(func() error {
		tx, err := g.begin(db)
		if err != nil {
			return err
		}
		defer g.end(tx)
		return fn(tx)
	})
}

// begin begins a reading transaction; end ends it. Both inside of run.
func (g *guard) begin(db *bolt.DB) (*bolt.Tx, error) {
	g.ends.Lock()
	defer g.ends.Unlock()
	return g.start(db, false)
}

func (g *guard) end(tx *bolt.Tx) {
	g.ends.Lock()
	defer g.ends.Unlock()
	if !g.stuck.Load() {
		_ = tx.Rollback() // nothing can come of ending a reading transaction
	}
}

// start begins a transaction; it marks the database as stuck before anybody else can come.
func (g *guard) start(db *bolt.DB, write bool) (*bolt.Tx, error) {
	if err := g.check(); err != nil {
		return nil, err
	}
	sound := false
	defer func() {
		if !sound {
			g.stuck.Store(true)
			g.give("its head cannot be read")
		}
	}()
	tx, err := db.Begin(write)
	sound = true
	return tx, err
}

// isDamage tells a panic over the contents of a database from a fault of ours: it is a memory fault at some address, or
// it was raised inside bbolt.
func isDamage(r any) bool {
	if _, ok := r.(interface{ Addr() uintptr }); ok {
		return true
	}
	var pcs [64]uintptr
	frames := runtime.CallersFrames(pcs[:runtime.Callers(2, pcs[:])])
	panicked := false // the frames of the panic itself were passed
	for {
		f, more := frames.Next()
		inRuntime := strings.HasPrefix(f.Function, "runtime.")
		switch {
		case f.Function == "runtime.gopanic" || f.Function == "runtime.sigpanic":
			panicked = true
		case panicked && !inRuntime:
			return strings.HasPrefix(f.Function, "go.etcd.io/bbolt")
		}
		if !more {
			return false
		}
	}
}

// inPlace fails when the file of the index was taken away, replaced or cut short since it was opened: what would be
// committed now would be gone at the next start.
func (s *Store) inPlace(tx *bolt.Tx) error {
	now, err := os.Stat(s.index.Path())
	switch {
	case err != nil:
		return fmt.Errorf("%w: index.db was taken away under the running store: %w", ErrCorrupt, err)
	case !os.SameFile(now, s.indexFile):
		return fmt.Errorf("%w: index.db was replaced under the running store", ErrCorrupt)
	case now.Size() < tx.Size():
		return s.guard.give(fmt.Sprintf("the file was cut to %d octets, it had at least %d; %s", now.Size(), tx.Size(), waysOut))
	}
	return nil
}

// lostIndex is told that index.db cannot be read any more.
func (s *Store) lostIndex(err error) { s.fail(fmt.Errorf("%w; %s", err, waysOut)) }

// closeWait is how long Close waits for work that may hang in a database that was given up.
const closeWait = time.Second

// awaitWork waits for work to end, not for ever where some of it may hang in a database that was given up.
func (s *Store) awaitWork(done func()) {
	if !s.guard.stuck.Load() && !s.meta.guard.stuck.Load() {
		done()
		return
	}
	ok := make(chan struct{})
	go func() { done(); close(ok) }()
	t := time.NewTimer(closeWait)
	defer t.Stop()
	select {
	case <-ok:
	case <-t.C:
	}
}
