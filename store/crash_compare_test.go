package store_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"mssd/store"
)

// crashOrder are the scenarios in the order of the table.
var crashOrder = []string{"create", "deliver", "deliver, each synced by its session", "deliver in groups", "messages", "mailboxes", "BALs", "owners, directory, notice of inactivity",
	"start after a kill", "expunged mail, sweep", "destruction of a BAL", "change of the master key", "keys recovery-set", "backup, prune", "restore", "fsck --repair", "fsck --rebuild"}

// compare opens what a crash left and holds it against what was acknowledged: all that is there, once, with its octets and
// UIDs; beside it at most what was on its way, whole. Then what got no answer is sent again.
func (l *crashLedger) compare(dir string, pos *position) error {
	tool := crashTools[l.Tool]
	if tool.mend != nil {
		if err := tool.mend(l, dir, pos); err != nil {
			return err
		}
	}
	if err := l.compareStore(dir, pos); err != nil || tool.after == nil {
		return err
	}
	return tool.after(l, dir, pos)
}

// dumpOf is what is compared.
func (l *crashLedger) dumpOf(s *store.Store) (string, error) {
	if l.Letters {
		return dumpLetters(s)
	}
	return dumpStore(s)
}

func (l *crashLedger) compareStore(dir string, pos *position) (err error) {
	s, err := l.open(dir, pos)
	if err != nil {
		return err
	}
	for i, st := range l.Steps[:pos.Done+1] {
		if b, err := os.ReadFile(filepath.Join(dir, "keys")); err != nil || len(st.Gone) > 0 && bytes.Contains(b, st.Gone) {
			return fmt.Errorf("step %d (%s): a key is still there, %v", i, st.Name, errors.Join(err, s.Close()))
		}
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	if pos.Done >= 0 || pos.Begun > 0 {
		if err := l.sameAs(s, pos); err != nil {
			return err
		}
	}
	if err := checkStore(s); err != nil {
		return err
	}
	if look := crashTools[l.Tool].look; look != nil {
		if err := look(l, dir, pos, s); err != nil {
			return err
		}
	}
	if err := l.resend(s, pos); err != nil {
		return err
	}
	if err := goOn(s); err != nil {
		return err
	}
	return checkStore(s)
}

const compareWord = "crash-compare" // first argument of the process of compareOutside

// compareOutside is compare in a process of its own: a damaged index can end the process, and bbolt, which gives up while
// a goroutine of its own still reads, has a race of its own there.
func (l *crashLedger) compareOutside(dir string, pos *position) error {
	b, err := json.Marshal(pos)
	if err != nil {
		return err
	}
	short, cancel := context.WithTimeout(ctx, 20*time.Second) // one that hangs is one that does not start
	defer cancel()
	cmd := exec.CommandContext(short, os.Args[0], compareWord, l.path, dir, string(b))
	cmd.Env = append(os.Environ(), quickEnd)
	out, err := cmd.CombinedOutput()
	if !strings.Contains(string(out), allThere) { // the race detector changes the exit status
		return fmt.Errorf("%w: %.2000s", err, out)
	}
	return nil
}

// quickEnd keeps the race detector from waiting a second at the end of each process.
const quickEnd = "GORACE=atexit_sleep_ms=0"

const allThere = "all there" // what it says in the end

func compareChild(ledger, dir, pos string) {
	var l crashLedger
	var p position
	b, err := os.ReadFile(ledger)
	crashFail(errors.Join(err, json.Unmarshal(b, &l), json.Unmarshal([]byte(pos), &p)))
	crashFail(l.compare(dir, &p))
	fmt.Println(allThere)
	os.Exit(0)
}

func checkStore(s *store.Store) error {
	problems, err := s.Check(ctx)
	for _, p := range problems {
		err = errors.Join(err, errors.New(p.String()))
	}
	return err
}

// open opens the store under the master key that is in force; a creation nobody was told of may have to be done again.
func (l *crashLedger) open(dir string, pos *position) (*store.Store, error) {
	opt := store.Options{Dir: dir, NoSync: true, Create: pos.Done < 0, MasterKey: l.Key}
	now, maybe := false, false
	for i, st := range l.Steps {
		now = now || st.Rotate && i <= pos.Done
		maybe = maybe || st.Rotate && i <= pos.Begun
	}
	if now {
		opt.MasterKey = l.Master
	}
	s, err := store.Open(opt)
	if errors.Is(err, store.ErrMasterKey) && maybe && !now {
		opt.MasterKey = l.Master
		s, err = store.Open(opt)
	}
	if err != nil {
		return nil, fmt.Errorf("does not open: %w", err)
	}
	return s, nil
}

func (l *crashLedger) dump(step int) string {
	if step < 0 {
		return ""
	}
	return l.Steps[step].Dump
}

// sameAs compares the store with the ledger.
func (l *crashLedger) sameAs(s *store.Store, pos *position) error {
	got, err := l.dumpOf(s)
	if err != nil {
		return err
	}
	before, after := l.dump(pos.Done), l.dump(pos.Begun)
	if got == before || got == after {
		return nil
	}
	if pos.Begun == pos.Done || !l.Steps[pos.Begun].Group {
		return fmt.Errorf("the store is neither as before step %d (%s) nor as after it:\ngot\n%swant\n%sor\n%s", pos.Begun, l.Steps[pos.Begun].Name, got, before, after)
	}
	there, all := rowLines(got), rowLines(after)
	for _, r := range rowLines(before) {
		if !slices.Contains(there, r) {
			return fmt.Errorf("lost: %s", r)
		}
	}
	for _, r := range there {
		if !slices.Contains(all, r) {
			return fmt.Errorf("nobody sent this, or it has changed: %s", r)
		}
	}
	for i, m := range l.Steps[pos.Begun].Mails {
		if pos.Acked[ackKey(pos.Begun, i)] && !strings.Contains(got, m.ID.String()) {
			return fmt.Errorf("lost: message %s, acknowledged, of a group", m.ID)
		}
	}
	return nil
}

func rowLines(dump string) (rows []string) {
	for line := range strings.Lines(dump) {
		if strings.HasPrefix(line, "row ") {
			rows = append(rows, line)
		}
	}
	return rows
}

// resend does what peers do: what they saw no 250 for is sent again, and some of what they did. Each is there once.
func (l *crashLedger) resend(s *store.Store, pos *position) error {
	for n := max(l.From, pos.Done-1); n <= pos.Begun; n++ {
		if l.Steps[n].Several {
			if _, err := sendSeveral(s, l.Steps[n].Mails); err != nil {
				return fmt.Errorf("several sent again: %w", err)
			}
		}
		for _, m := range l.Steps[n].Mails {
			if l.Steps[n].Several {
				// sent above
			} else if _, _, err := sendMail(s, m, true); err != nil {
				return fmt.Errorf("sent again: %w", err)
			}
			for _, to := range m.To {
				if err := onceThere(s, to, m.Raw); err != nil {
					return fmt.Errorf("step %d (%s), sent again: %w", n, l.Steps[n].Name, err)
				}
			}
		}
	}
	return nil
}

func onceThere(s *store.Store, to store.Ref, raw string) error {
	n := 0
	var failed error
	err := s.Rows(ctx, to, []store.Run{{First: 1, Count: ^uint32(0)}}, func(r store.Row) bool {
		c, err := s.OpenMessage(to.BAL, r.Message)
		if err != nil {
			failed = err
			return false
		}
		defer c.Close()
		b := make([]byte, c.BlobSize())
		if _, err := c.ReadAt(b, int64(len(c.Prefix()))); err != nil && int64(len(b)) != c.BlobSize() {
			failed = err
		}
		if string(b) == raw {
			n++
		}
		return true
	})
	if err = errors.Join(err, failed); err == nil && n != 1 {
		err = fmt.Errorf("the message is there %d times", n)
	}
	return err
}

// goOn uses the store: a new BAL, whose key takes the place of what a crash left of another one, and a mail for it.
func goOn(s *store.Store) error {
	_, err := s.Commit(ctx, &store.Batch{Ops: []store.Op{store.PutBAL{Create: true, AfterRestore: true, BAL: store.BAL{Address: "later@bal.example", Kind: store.ORG, State: store.Active, Listing: store.Published}}}})
	if err != nil {
		return fmt.Errorf("a new BAL: %w", err)
	}
	bal, err := s.BAL("later@bal.example")
	if err != nil {
		return err
	}
	in, err := s.Mailbox(bal.ID, "INBOX")
	if err != nil {
		return err
	}
	m := crashMail{Raw: crashRaw(99, 100), To: []store.Ref{in.Ref}}
	if _, _, err := sendMail(s, m, true); err != nil {
		return fmt.Errorf("a new mail: %w", err)
	}
	return onceThere(s, in.Ref, m.Raw)
}
