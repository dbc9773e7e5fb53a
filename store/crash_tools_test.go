package store_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	bolt "go.etcd.io/bbolt"

	"mssd/store"
	"mssd/store/backup"
	"mssd/trace"
)

// What follows are the scenarios of the commands that work beside a store or on a stopped one: backup, restore, repair,
// rebuild, a recovery key. After a power cut the operator does what the manual says: the same command again.

// crashTools are what is done before a disk is opened (mend), while the store is open (look) and afterwards (after).
var crashTools = map[string]struct {
	mend  func(l *crashLedger, dir string, pos *position) error
	look  func(l *crashLedger, dir string, pos *position, s *store.Store) error
	after func(l *crashLedger, dir string, pos *position) error
}{
	"fsck --rebuild":    {mend: mendRebuild},
	"fsck --repair":     {mend: mendRepair},
	"restore":           {mend: mendRestore},
	"backup, prune":     {mend: mendBackup, look: lookBackup},
	"keys recovery-set": {after: afterRecovery},
}

// dumpLetters is what no tool may lose: the BALs and the octets of their mail, wherever it stands.
func dumpLetters(s *store.Store) (string, error) {
	var lines []string
	for _, bal := range s.BALs() {
		lines = append(lines, fmt.Sprintf("bal %s\n", bal.Address))
		boxes, err := s.Mailboxes(bal.ID)
		if err != nil {
			return "", err
		}
		for _, m := range boxes {
			var all []store.Row
			if !m.Created {
				continue
			}
			if err := s.Rows(ctx, m.Ref, []store.Run{{First: 1, Count: ^uint32(0)}}, func(r store.Row) bool { all = append(all, r); return true }); err != nil {
				return "", err
			}
			for _, r := range all {
				c, err := s.OpenMessage(bal.ID, r.Message)
				if err != nil {
					return "", err
				}
				b := make([]byte, c.BlobSize())
				n, err := c.ReadAt(b, int64(len(c.Prefix())))
				c.Close()
				if n != len(b) {
					return "", err
				}
				lines = append(lines, fmt.Sprintf("row %s %.60q\n", bal.Address, b))
			}
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, ""), nil
}

// tool is a step of a tool: what is there before and after it is the same mail.
func (w *crashWriter) tool(name string, do func(st *crashStep)) {
	if w.ledger.From == 0 {
		w.ledger.From = len(w.ledger.Steps)
	}
	w.step(name, do)
}

// settled makes all that the scene consists of durable.
func settled(dir string) {
	crashFail(filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		return errors.Join(f.Sync(), f.Close())
	}))
}

// spoilIndexPhase leaves an index of which nothing can be read.
func spoilIndexPhase(w *crashWriter) {
	w.letters()
	index := filepath.Join(w.dir, "index.db")
	crashFail(os.WriteFile(index, bytes.Repeat([]byte{0xff}, 16<<10), 0o600))
	settled(w.dir)
}

// letters notes the mail of a store that is closed; from then on the mail counts, not its numbers.
func (w *crashWriter) letters() {
	w.ledger.Letters = true
	w.step("look", func(st *crashStep) {
		s, err := store.Open(store.Options{Dir: w.dir})
		crashFail(err)
		st.Dump, err = dumpLetters(s)
		crashFail(errors.Join(err, s.Close()))
	})
}

func rebuildPhase(w *crashWriter) {
	w.tool("rebuild", func(*crashStep) {
		_, err := store.RebuildBy(ctx, store.RebuildOptions{Dir: w.dir}, 2)
		crashFail(err)
	})
	useOn(w)
}

// useOn uses what a tool made.
func useOn(w *crashWriter) {
	before := w.ledger.Steps[len(w.ledger.Steps)-1].Dump
	w.open(store.Options{MasterKey: w.ledger.Key})
	if after := w.ledger.Steps[len(w.ledger.Steps)-1].Dump; after != before {
		crashFail(fmt.Errorf("the tool left\n%swant\n%s", after, before))
	}
	w.deliver(40, 3000, w.box("a@bal.example", "INBOX"))
	w.close()
}

func mendRebuild(l *crashLedger, dir string, pos *position) error {
	if pos.Done >= l.From {
		if kept, _ := filepath.Glob(filepath.Join(dir, "index.db.damaged-*")); len(kept) == 0 {
			return errors.New("the former index was not kept")
		}
		return nil
	}
	if _, err := store.Rebuild(ctx, store.RebuildOptions{Dir: dir}); err != nil && !errors.Is(err, store.ErrReadable) {
		return fmt.Errorf("rebuild again: %w", err)
	}
	return nil
}

// loseRowPhase takes the row of a message out of the index.
func loseRowPhase(w *crashWriter) {
	w.letters()
	db, err := bolt.Open(filepath.Join(w.dir, "index.db"), 0, nil)
	crashFail(err)
	crashFail(db.Update(func(tx *bolt.Tx) error {
		rows := tx.Bucket([]byte("row"))
		k, _ := rows.Cursor().First()
		return rows.Delete(bytes.Clone(k))
	}))
	crashFail(db.Close())
	settled(w.dir)
}

func repairPhase(w *crashWriter) {
	w.tool("repair", func(*crashStep) {
		_, err := store.Repair(ctx, store.RepairOptions{Dir: w.dir})
		crashFail(err)
	})
	useOn(w)
}

func mendRepair(l *crashLedger, dir string, pos *position) error {
	if pos.Done >= l.From {
		return nil
	}
	if _, err := store.Repair(ctx, store.RepairOptions{Dir: dir}); err != nil {
		return fmt.Errorf("repair again: %w", err)
	}
	return nil
}

// oldStorePhase makes a store and a backup of it elsewhere, on disks that no power cut hurts.
func oldStorePhase(w *crashWriter) {
	dir := w.dir
	w.dir = filepath.Join(filepath.Dir(w.ledgerPath), "old")
	setupPhase(w)
	w.letters()
	w.ledger.Key, w.ledger.Backups = filepath.Join(w.dir, "master.key"), filepath.Join(filepath.Dir(w.ledgerPath), "backups")
	s, err := store.Open(store.Options{Dir: w.dir})
	crashFail(err)
	_, err = runBackup(s, w.ledger.Backups, backup.Create)
	crashFail(errors.Join(err, s.Close()))
	w.dir = dir
}

func runBackup(s *store.Store, dir string, use backup.Use) (backup.Report, error) {
	d, err := backup.Open(dir, use)
	if err != nil {
		return backup.Report{}, err
	}
	r, err := backup.Run(ctx, backup.Local{Store: s}, d, backup.Options{})
	return r, errors.Join(err, d.Close())
}

func restoreFrom(backups, generation, to, key string, rehearse bool) error {
	d, err := backup.Open(backups, backup.Read)
	if err != nil {
		return err
	}
	r, err := backup.Restore(context.Background(), d, backup.RestoreOptions{Generation: generation, To: to, MasterKey: key, Rehearse: rehearse})
	if err = errors.Join(err, d.Close()); err == nil && !r.Sound() {
		err = fmt.Errorf("not whole: %+v", r)
	}
	return err
}

func restorePhase(w *crashWriter) {
	w.tool("rehearsal", func(*crashStep) { crashFail(restoreFrom(w.ledger.Backups, "", w.dir, w.ledger.Key, true)) })
	w.step("restore", func(*crashStep) { crashFail(restoreFrom(w.ledger.Backups, "", w.dir, w.ledger.Key, false)) })
	useOn(w)
}

// mendRestore: a folder without VERSION is none that was restored. One with it is whole, which compare finds.
func mendRestore(l *crashLedger, dir string, pos *position) error {
	_, err := os.Stat(filepath.Join(dir, "VERSION"))
	if err == nil {
		return nil
	}
	if pos.Done > l.From {
		return errors.New("it was restored, and is no store")
	}
	if _, err := store.Open(store.Options{Dir: dir, MasterKey: l.Key}); !errors.Is(err, store.ErrNoStore) {
		return fmt.Errorf("a half restore opens: %w", err)
	}
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	return restoreFrom(l.Backups, "", dir, l.Key, false)
}

func backupPhase(w *crashWriter) {
	dir := filepath.Join(filepath.Dir(w.dir), "b")
	w.open(store.Options{})
	run := func(use backup.Use) {
		w.tool("backup", func(st *crashStep) {
			r, err := runBackup(w.s, dir, use)
			crashFail(err)
			st.Generation = r.Generation
			st.Saved, err = dumpLetters(w.s)
			crashFail(err)
		})
	}
	run(backup.Create)
	w.deliver(10, 4000, w.box("b@bal.example", "INBOX"))
	run(backup.Write)
	w.tool("prune", func(st *crashStep) {
		d, err := backup.Open(dir, backup.Write)
		crashFail(err)
		p, err := backup.Prune(ctx, d, 1, nil)
		crashFail(errors.Join(err, d.Close()))
		for _, id := range p.IDs {
			crashFail(backup.Local{Store: w.s}.Forget(ctx, id))
		}
		st.Pruned = p.Generations
	})
	w.deliver(11, 400, w.box("a@bal.example", "INBOX"))
	w.close()
}

// mendBackup looks at the backups: each generation that was acknowledged, and not pruned, is there, whole, and gives back
// the mail of its day.
func mendBackup(l *crashLedger, dir string, pos *position) error {
	backups := filepath.Join(filepath.Dir(dir), "b")
	if pos.Done < l.From {
		return nil
	}
	d, err := backup.Open(backups, backup.Read)
	if err != nil {
		return err
	}
	defer d.Close()
	v, err := backup.Verify(ctx, d, "", filepath.Join(dir, "master.key"), nil)
	if err != nil || len(v.Faults) > 0 {
		return fmt.Errorf("verify: %v %w", v.Faults, err)
	}
	gone := l.Steps[pos.Begun].Pruned
	for _, st := range l.Steps[:pos.Done+1] {
		gone = append(gone, st.Pruned...)
	}
	for _, st := range l.Steps[:pos.Done+1] {
		if st.Generation == "" || slices.Contains(gone, st.Generation) {
			continue
		}
		to := filepath.Join(filepath.Dir(dir), "r")
		if err := restoreFrom(backups, st.Generation, to, filepath.Join(dir, "master.key"), false); err != nil {
			return fmt.Errorf("generation %s: %w", st.Generation, err)
		}
		s, err := store.Open(store.Options{Dir: to, MasterKey: filepath.Join(dir, "master.key"), NoSync: true})
		if err != nil {
			return err
		}
		saved, err := dumpLetters(s)
		if err := errors.Join(err, s.Close(), os.RemoveAll(to)); err != nil {
			return err
		}
		if saved != st.Saved {
			return fmt.Errorf("generation %s has\n%swant\n%s", st.Generation, saved, st.Saved)
		}
	}
	return nil
}

// lookBackup: where keys lie, the store knows of it. Then another backup is made.
func lookBackup(_ *crashLedger, dir string, _ *position, s *store.Store) error {
	backups := filepath.Join(filepath.Dir(dir), "b")
	known, err := s.Backups()
	if err != nil {
		return err
	}
	names, _ := filepath.Glob(filepath.Join(backups, "generations", "*", "keys"))
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		if len(bytes.Trim(b, "\x00")) == 0 {
			continue
		}
		_, text, _ := strings.Cut(strings.TrimSuffix(filepath.Base(filepath.Dir(name)), ".partial"), "-")
		id, err := trace.ParseID(text)
		if err != nil {
			return err
		}
		if !slices.ContainsFunc(known, func(b store.Backup) bool { return b.ID == id && b.Forgotten.IsZero() }) {
			return fmt.Errorf("keys lie in %s, and the store does not know of it", filepath.Base(filepath.Dir(name)))
		}
	}
	r, err := runBackup(s, backups, backup.Create)
	if err != nil || r.DamagedAll > 0 {
		return fmt.Errorf("another backup: %+v %w", r, err)
	}
	d, err := backup.Open(backups, backup.Read)
	if err != nil {
		return err
	}
	defer d.Close()
	if v, err := backup.Verify(ctx, d, "", filepath.Join(dir, "master.key"), nil); err != nil || len(v.Faults) > 0 {
		return fmt.Errorf("verify after another backup: %v %w", v.Faults, err)
	}
	return nil
}

func recoveryPhase(w *crashWriter) {
	w.ledger.Recovery, w.ledger.Master = w.ledgerPath+".private", w.ledgerPath+".key"
	_, err := store.MakeRecoveryKey(w.ledger.Recovery, w.ledgerPath+".public")
	crashFail(err)
	crashFail(store.MakeMasterKey(w.ledger.Master))
	w.tool("recovery-set", func(*crashStep) { crashFail(store.SetRecovery(w.dir, "", w.ledgerPath+".public")) })
	w.open(store.Options{})
	w.addBAL("c@bal.example")
	w.deliver(10, 300, w.box("c@bal.example", "INBOX"))
	w.close()
}

// afterRecovery loses the master key: once the recovery key was acknowledged it opens the store, with all that is in it.
func afterRecovery(l *crashLedger, dir string, pos *position) error {
	if pos.Done < l.From {
		return nil
	}
	if err := os.Remove(filepath.Join(dir, "master.key")); err != nil {
		return err
	}
	if _, lost, err := store.Recover(dir, l.Recovery, l.Master); err != nil || len(lost) > 0 {
		return fmt.Errorf("recover: %v lost, %w", lost, err)
	}
	s, err := store.Open(store.Options{Dir: dir, MasterKey: l.Master, NoSync: true})
	if err != nil {
		return err
	}
	_, err = dumpLetters(s)
	return errors.Join(err, checkStore(s), s.Close())
}
