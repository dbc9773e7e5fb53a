package store_test

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	bolt "go.etcd.io/bbolt"

	"mssd/message"
	"mssd/store"
	"mssd/trace"
)

// crashLedger is what a scenario did, step by step. The process that does it writes it down; it is never cut short
// itself, the power cut is made afterwards, in the trace.
type crashLedger struct {
	path   string
	Master string // file of another master key, that a step changes to
	Tool   string // of crashTools; "" none
	From   int    // the first step of the tool: mail of before is not sent again
	Key    string // file of the master key; "" beside the store

	Letters  bool        // dumps are of the mail alone
	Backups  string      // where they lie
	Recovery string      // file of the private recovery key
	Steps    []crashStep // in order; none begins before the former one is done
}

type crashStep struct {
	Name    string
	Dump    string      // the store after it; "" where none is open yet
	Mails   []crashMail // delivered by it, guarded against repetition
	Several bool        // its mails are one batch
	Group   bool        // its mails are on their way at the same time: any of them may be there
	Gone    []byte      // from here on these octets stand nowhere in the file of the keys
	Rotate  bool        // from here on only Master opens the store

	Generation string // made by it, with what mail
	Saved      string
	Pruned     []string // generations taken away by it
}

type crashMail struct {
	ID  trace.ID
	Raw string
	To  []store.Ref
}

func (m crashMail) once() *store.Once { return &store.Once{Key: sha256.Sum256([]byte(m.Raw))} }

// crashWriter runs a phase of a scenario in a process of its own and says on its output where it is: "S n" before step n,
// "A n i" when mail i of it is acknowledged, "D n" when the step is.
type crashWriter struct {
	dir, ledgerPath string
	ledger          crashLedger
	s               *store.Store
	gate            atomic.Pointer[chan struct{}] // not nil: commits of the index wait for it
	waiting         atomic.Int32
}

func crashFail(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "scenario:", err)
		os.Exit(1)
	}
}

func say(format string, args ...any) {
	_, err := os.Stdout.WriteString(fmt.Sprintf(format+"\n", args...)) // one write, which the trace shows
	crashFail(err)
}

// crashChild is the process: phase of scenario, dir and the file of the ledger.
func crashChild(scenario, phase, dir, ledger string) {
	w := &crashWriter{dir: dir, ledgerPath: ledger}
	if b, err := os.ReadFile(ledger); err == nil {
		crashFail(json.Unmarshal(b, &w.ledger))
	}
	if _, ok := crashTools[scenario]; ok {
		w.ledger.Tool = scenario
	}
	crashScenarios[scenario][phase[0]-'0'](w)
	w.save()
	os.Exit(0)
}

func (w *crashWriter) save() {
	b, err := json.Marshal(w.ledger)
	crashFail(err)
	crashFail(os.WriteFile(w.ledgerPath, b, 0o600))
}

// step does one thing that is acknowledged when it returns.
func (w *crashWriter) step(name string, do func(st *crashStep)) {
	n := len(w.ledger.Steps)
	w.ledger.Steps = append(w.ledger.Steps, crashStep{Name: name})
	if n > 0 {
		w.ledger.Steps[n].Dump = w.ledger.Steps[n-1].Dump
	}
	st := &w.ledger.Steps[n]
	say("S %d", n)
	do(st)
	say("D %d", n)
	if w.s != nil {
		var err error
		st.Dump, err = w.ledger.dumpOf(w.s)
		crashFail(err)
	}
}

func (w *crashWriter) open(opt store.Options) {
	w.step("open", func(*crashStep) {
		opt.Dir = w.dir
		var err error
		w.s, err = store.Open(opt)
		crashFail(err)
		w.s.SetCommit(func(tx *bolt.Tx) error {
			if gate := w.gate.Load(); gate != nil {
				w.waiting.Add(1)
				<-*gate
			}
			return tx.Commit()
		})
	})
}

func (w *crashWriter) close() {
	w.step("close", func(*crashStep) {
		crashFail(w.s.Close())
		w.s = nil
	})
}

// do commits operations as one step.
func (w *crashWriter) do(name string, ops ...store.Op) (res *store.Result) {
	w.step(name, func(*crashStep) {
		var err error
		res, err = w.s.Commit(ctx, &store.Batch{Ops: ops, Events: []trace.Event{{Kind: trace.Admin}}})
		crashFail(err)
	})
	return res
}

func (w *crashWriter) addBAL(a store.Address) {
	w.do("bal", store.PutBAL{Create: true, BAL: store.BAL{Address: a, Kind: store.ORG, State: store.Active, Listing: store.Published}})
}

func (w *crashWriter) box(a store.Address, name string) store.Ref {
	b, err := w.s.BAL(a)
	crashFail(err)
	m, err := w.s.Mailbox(b.ID, name)
	crashFail(err)
	return m.Ref
}

// crashRaw is a letter with a number; size is about that of its body.
func crashRaw(n, size int) string {
	return fmt.Sprintf("Subject: letter %d\r\nMessage-ID: <c%d@labo.example>\r\n\r\n%s\r\n", n, n, strings.Repeat(fmt.Sprintf("%x line of letter %d\r\n", sha256.Sum256([]byte{byte(n)}), n), size/80+1))
}

func (w *crashWriter) commitMail(m *crashMail, once bool) (err error) {
	m.ID, _, err = sendMail(w.s, *m, once)
	return err
}

// sendMail delivers a mail, guarded against repetition or not.
func sendMail(s *store.Store, m crashMail, once bool) (id trace.ID, duplicate bool, err error) {
	b, err := s.NewBlob()
	if err != nil {
		return 0, false, err
	}
	defer b.Abort()
	sc := message.NewScanner()
	sc.Write([]byte(m.Raw))
	if _, err := b.Write([]byte(m.Raw)); err != nil {
		return 0, false, err
	}
	meta, text := sc.Finish()
	if err := b.Finish(meta, text); err != nil {
		return 0, false, err
	}
	batch := &store.Batch{Blob: b}
	if once {
		batch.Once = m.once()
	}
	for i, to := range m.To {
		batch.Ops = append(batch.Ops, store.AddMessage{Ref: to, Delivery: once, Prefix: fmt.Appendf(nil, "Received: for number %d\r\n", i)})
		batch.Events = append(batch.Events, trace.Event{Kind: trace.Committed, Mailbox: uint32(to.Mailbox)})
	}
	res, err := s.Commit(ctx, batch)
	if err != nil {
		return 0, false, err
	}
	return res.ID, res.Duplicate, nil
}

// deliver is a lone delivery.
func (w *crashWriter) deliver(n, size int, to ...store.Ref) {
	w.step("deliver", func(st *crashStep) {
		m := crashMail{Raw: crashRaw(n, size), To: to}
		st.Mails = []crashMail{m}
		crashFail(w.commitMail(&st.Mails[0], true))
	})
}

// deliverMany has count deliveries on their way at a time: the first in a commit of its own, the others in the next one.
func (w *crashWriter) deliverMany(n, count, size int, to ...store.Ref) {
	w.step("group", func(st *crashStep) {
		st.Group = true
		for i := range count {
			st.Mails = append(st.Mails, crashMail{Raw: crashRaw(n+i, size), To: to[i%len(to):][:1]})
		}
		gate := make(chan struct{})
		w.waiting.Store(0)
		w.gate.Store(&gate)
		var wg sync.WaitGroup
		send := func(i int) {
			wg.Go(func() {
				crashFail(w.commitMail(&st.Mails[i], true))
				say("A %d %d", len(w.ledger.Steps)-1, i)
			})
		}
		send(0)
		for w.waiting.Load() == 0 { // the first one is at its commit, waiting
			time.Sleep(time.Millisecond)
		}
		for i := 1; i < count; i++ {
			send(i)
		}
		for w.s.Queued() < count-1 {
			time.Sleep(time.Millisecond)
		}
		w.gate.Store(nil)
		close(gate)
		wg.Wait()
	})
}

// leftovers are what a process leaves that is killed in mid-work: a body in the spool, one in its place without a record.
func (w *crashWriter) leftovers() {
	for i := range 2 {
		b, err := w.s.NewBlob()
		crashFail(err)
		_, err = b.Write([]byte(crashRaw(90+i, 90_000)))
		crashFail(err)
		if i == 1 {
			span := filepath.Dir(firstFile(w.dir))
			crashFail(os.Rename(filepath.Join(w.dir, "spool", b.ID().String()), filepath.Join(span, b.ID().String())))
		}
	}
}

func firstFile(dir string) string {
	all, _ := filepath.Glob(filepath.Join(dir, "blobs", "*", "*"))
	slices.Sort(all)
	return all[0]
}

func setupPhase(w *crashWriter) {
	w.open(store.Options{Create: true})
	w.addBAL("a@bal.example")
	w.addBAL("b@bal.example")
	for i, a := range []store.Address{"a@bal.example", "b@bal.example", "a@bal.example"} {
		w.deliver(i, 500, w.box(a, "INBOX"))
	}
	w.close()
}

// crashScenarios are the phases of each; a phase is a process. Those before the last set the scene.
var crashScenarios = map[string][]func(w *crashWriter){
	"create": {func(w *crashWriter) {
		w.open(store.Options{Create: true})
		w.addBAL("a@bal.example")
		w.close()
	}},
	"deliver": {setupPhase, func(w *crashWriter) {
		w.open(store.Options{})
		a, b := w.box("a@bal.example", "INBOX"), w.box("b@bal.example", "INBOX")
		w.deliver(10, 5000, a)
		w.deliver(11, 200_000, b)
		w.deliver(12, 100, a, b)
		w.deliver(13, 5000, a)
		w.close()
	}},
	"deliver, each synced by its session": {setupPhase, func(w *crashWriter) {
		w.open(store.Options{SyncEach: true})
		a, b := w.box("a@bal.example", "INBOX"), w.box("b@bal.example", "INBOX")
		w.deliver(10, 5000, a)
		w.deliver(11, 100_000, b, a)
		w.several(40, 3, b)
		w.deliverMany(20, 4, 900, a, b)
		w.close()
	}},
	"deliver in groups": {setupPhase, func(w *crashWriter) {
		w.open(store.Options{})
		a, b := w.box("a@bal.example", "INBOX"), w.box("b@bal.example", "INBOX")
		w.deliverMany(10, 3, 2000, a, b) // two at a time: by fsync
		w.deliverMany(20, 7, 3000, a, b) // six: by syncfs
		w.deliver(30, 100, a)
		w.close()
	}},
	"next start": {func(w *crashWriter) { // not of TestPowerCut: see TestPowerCutTwice
		w.open(store.Options{})
		w.close()
	}},
	"backup, prune":     {setupPhase, backupPhase},
	"restore":           {oldStorePhase, restorePhase},
	"fsck --repair":     {setupPhase, loseRowPhase, repairPhase},
	"fsck --rebuild":    {setupPhase, spoilIndexPhase, rebuildPhase},
	"keys recovery-set": {setupPhase, recoveryPhase},
	"mailboxes":         {setupPhase, mailboxPhase},
	"messages":          {setupPhase, messagePhase},
	"BALs": {setupPhase, func(w *crashWriter) {
		w.open(store.Options{})
		w.addBAL("c@bal.example")
		w.deliver(10, 300, w.box("c@bal.example", "INBOX"))
		w.do("two BALs", store.PutBAL{Create: true, BAL: store.BAL{Address: "d@bal.example", Kind: store.PER, State: store.Declared, Listing: store.Unlisted}},
			store.PutBAL{Create: true, BAL: store.BAL{Address: "e@bal.example", Kind: store.APP, State: store.Active, Listing: store.Published}})
		w.do("member", store.PutMember{Address: "c@bal.example", Member: store.Member{ID: "local:anne", Role: store.Owner, PasswordHash: "x", SCRAM: "y"}})
		w.do("state", store.SetBALState{Address: "d@bal.example", State: store.Active})
		w.deliver(11, 300, w.box("d@bal.example", "INBOX"), w.box("e@bal.example", "INBOX"))
		w.do("end of member", store.EndMember{Address: "c@bal.example", Member: "local:anne"})
		w.close()
	}},
	"owners, directory, notice of inactivity": {setupPhase, func(w *crashWriter) {
		w.open(store.Options{})
		const at = "c@bal.example"
		w.addBAL(at)
		w.do("owner", store.PutMember{Address: at, Member: store.Member{ID: "local:anne", Role: store.Owner}})
		w.do("added by the owner", store.MemberByOwner{Address: at, By: "local:anne", Act: store.AddMember, Member: store.Member{ID: "local:luc", Role: store.Reader}})
		w.do("told", store.Tell{Address: at, Told: store.Told{Entry: "8|99900000052|1|990000119", At: time.Unix(1_700_000_000, 0)}})
		w.do("changed by the owner", store.MemberByOwner{Address: at, By: "local:anne", Act: store.ChangeMember,
			Member: store.Member{ID: "local:luc", Role: store.Owner, Until: time.Unix(3_000_000_000, 0)}})
		b, err := w.s.BAL(at)
		crashFail(err)
		w.do("notice", store.NoteInactive{BAL: b.ID, Since: b.Silent()})
		w.do("ended by the owner", store.MemberByOwner{Address: at, By: "local:luc", Act: store.DropMember, Member: store.Member{ID: "local:luc"}},
			store.Tell{Address: at, Told: store.Told{At: time.Unix(1_700_000_100, 0)}})
		w.close()
	}},
	"start after a kill": {setupPhase, func(w *crashWriter) {
		w.open(store.Options{})
		w.deliver(10, 5000, w.box("a@bal.example", "INBOX"))
		w.leftovers() // and no close
	}, func(w *crashWriter) {
		w.open(store.Options{})
		w.deliver(11, 700, w.box("a@bal.example", "INBOX"))
		w.close()
	}},
	"expunged mail, sweep": {setupPhase, func(w *crashWriter) {
		w.open(store.Options{})
		in := w.box("a@bal.example", "INBOX")
		w.do("flag", store.StoreFlags{Ref: in, Runs: []store.Run{{First: 1, Count: 2}}, Mode: store.Add, Flags: store.Deleted})
		w.do("expunge", store.Expunge{Ref: in, Runs: []store.Run{{First: 1, Count: 2}}})
		gone, err := w.s.Expunged(ctx, in.BAL, store.ExpungedID{}, 10)
		crashFail(err)
		w.do("undelete", store.Undelete{BAL: in.BAL, Which: []store.ExpungedID{gone[0].ExpungedID}})
		w.close()
	}, func(w *crashWriter) {
		w.open(store.Options{RetainExpunged: -1})
		dead := bodyFiles(w.dir)
		w.step("sweep", func(*crashStep) {
			_, err := w.s.Sweep(ctx, true)
			crashFail(err)
		})
		if bodyFiles(w.dir) >= dead {
			crashFail(fmt.Errorf("nothing was swept"))
		}
		w.close()
	}},
	"destruction of a BAL": {setupPhase, func(w *crashWriter) {
		w.open(store.Options{})
		a, err := w.s.BAL("a@bal.example")
		crashFail(err)
		w.do("close BAL", store.SetBALState{Address: a.Address, State: store.Closed})
		keys, err := os.ReadFile(filepath.Join(w.dir, "keys"))
		crashFail(err)
		off, _ := store.SlotPlace(a.ID)
		w.step("destroy", func(st *crashStep) {
			st.Gone = keys[off+16 : off+76] // the key, wrapped
			_, err := w.s.DestroyBAL(ctx, a.Address)
			crashFail(err)
		})
		w.step("wipe", func(*crashStep) { crashFail(w.s.FinishDestroying(ctx)) })
		w.close()
	}},
	"change of the master key": {setupPhase, func(w *crashWriter) {
		w.ledger.Master = w.ledgerPath + ".key"
		crashFail(store.MakeMasterKey(w.ledger.Master))
		w.step("rotate", func(st *crashStep) {
			st.Rotate = true
			crashFail(store.Rekey(w.dir, "", w.ledger.Master))
		})
		w.open(store.Options{MasterKey: w.ledger.Master})
		w.addBAL("c@bal.example")
		w.close()
	}},
}

func mailboxPhase(w *crashWriter) {
	w.open(store.Options{})
	a, err := w.s.BAL("a@bal.example")
	crashFail(err)
	w.do("create mailbox", store.CreateMailbox{BAL: a.ID, Name: "Patients/2026/Juin"})
	w.do("copy", store.Copy{From: w.box("a@bal.example", "INBOX"), Runs: one(1), To: w.box("a@bal.example", "Patients/2026/Juin")})
	w.do("rename mailbox", store.RenameMailbox{Ref: w.box("a@bal.example", "Patients"), To: "Anciens"})
	w.do("rename INBOX", store.RenameMailbox{Ref: w.box("a@bal.example", "INBOX"), To: "Anciens/Reçus"})
	w.do("subscribe", store.Subscribe{BAL: a.ID, Name: "Anciens/2026", On: true}, store.Subscribe{BAL: a.ID, Name: "Sent"})
	to := w.box("a@bal.example", "Anciens/2026/Juin")
	w.do("annotate", store.PutAnnotation{Ref: to, Annotation: store.Annotation{Entry: "/comment", Value: "Juin"}},
		store.PutAnnotation{Ref: store.Ref{BAL: a.ID}, Annotation: store.Annotation{Person: "local:anne", Entry: "/vendor/test/x", Value: "y"}})
	w.do("annotate anew", store.PutAnnotation{Ref: store.Ref{BAL: a.ID}, Annotation: store.Annotation{Person: "local:anne", Entry: "/vendor/test/x", Value: "z"}})
	w.do("delete mailbox", store.DeleteMailbox{Ref: w.box("a@bal.example", "Anciens/2026/Juin")})
	w.do("delete full mailbox", store.DeleteMailbox{Ref: w.box("a@bal.example", "Anciens/Reçus")})
	w.close()
}

func messagePhase(w *crashWriter) {
	w.open(store.Options{})
	in, sent, other := w.box("a@bal.example", "INBOX"), w.box("a@bal.example", "Sent"), w.box("b@bal.example", "Archive")
	w.step("append", func(*crashStep) {
		m := crashMail{Raw: crashRaw(10, 2000), To: []store.Ref{sent}}
		crashFail(w.commitMail(&m, false))
	})
	w.several(40, 3, sent)
	w.do("flags", store.StoreFlags{Ref: in, Runs: one(1), Mode: store.Add, Flags: store.Seen, Keywords: []string{"urgent", "vu"}})
	w.do("copy", store.Copy{From: in, Runs: one(1), To: sent})
	w.do("copy to another BAL", store.Copy{From: in, Runs: one(2), To: other})
	w.do("move", store.Move{From: in, Runs: one(1), To: sent})
	w.do("move to another BAL", store.Move{From: sent, Runs: one(1), To: other})
	w.do("deleted", store.StoreFlags{Ref: in, Runs: one(2), Mode: store.Replace, Flags: store.Deleted})
	w.do("expunge", store.Expunge{Ref: in, Runs: one(2)})
	w.deliver(11, 400, in)
	w.close()
}
