package admin

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"mssd/message"
	"mssd/store"
	"mssd/trace"
)

// importer takes in the messages of one stream. Its goroutine reads, scans, spools and submits in the order of the
// stream; a second one waits for the commits and answers, in this order too.
type importer struct {
	s     *Server
	r     *http.Request
	rc    *http.ResponseController
	ctx   context.Context // ended with its cause when the import cannot go on
	bal   store.BAL
	mark  *int // in Server.importing
	head  TransferHead
	in    *frameReader
	uses  map[string]bool    // special uses that a mailbox has
	boxes map[string]*target // by the name in the stream
	out   frameWriter        // of the answering goroutine
}

// target is a mailbox that is imported into.
type target struct {
	ref     store.Ref
	present []presentRow // what was there before, by date and size; nil: not looked yet
	looked  bool
}

// presentRow is a message that was there before. Each stands for one message of the stream only, so that two of the
// same stay two.
type presentRow struct {
	date, size int64
	id         store.MessageID
	taken      bool
}

// pending is a message on its way: what is known already, or a commit to wait for.
type pending struct {
	answer TransferAnswer
	batch  *store.Batch
	wait   func() (*store.Result, error)
}

// streams says which requests have no bound as a whole.
func streams(r *http.Request) bool {
	return r.Method == http.MethodPost && strings.HasSuffix(r.URL.Path, "/mail")
}

func (s *Server) isStopping() bool {
	select {
	case <-s.stopping:
		return true
	default:
		return false
	}
}

func (s *Server) balImport(w http.ResponseWriter, r *http.Request) error {
	b, err := s.Store.BAL(address(r.PathValue("address")))
	if err != nil {
		return err
	}
	if b.State >= store.Closed {
		return &Problem{http.StatusConflict, "this BAL is " + b.State.String(), "expected one that is declared, active or suspended"}
	}
	// One that was killed a moment ago may still have commits under way, which this one must see.
	mine := new(int) // only our own mark is taken away: another import may have begun before we have returned
	if _, running := s.importing.LoadOrStore(b.ID, mine); running {
		return &Problem{http.StatusConflict, "an import into this BAL is running", "wait for its end, or stop it"}
	}
	defer s.importing.CompareAndDelete(b.ID, mine)
	boxes, err := s.Store.Mailboxes(b.ID)
	if err != nil {
		return err
	}
	ev := event(r, trace.Admin, "bal import")
	ev.BAL = string(b.Address)
	if _, err := s.Store.Commit(r.Context(), &store.Batch{Events: []trace.Event{ev}}); err != nil {
		return err
	}
	im := &importer{s: s, r: r, mark: mine, rc: http.NewResponseController(w), bal: b, in: newFrameReader(r.Body), out: newFrameWriter(w),
		uses: map[string]bool{}, boxes: map[string]*target{}}
	for _, m := range boxes {
		im.uses[m.SpecialUse] = true
	}
	if err := im.rc.EnableFullDuplex(); err != nil { // answers go out while messages come in
		return err
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	if err := im.rc.Flush(); err != nil {
		return err
	}
	end := im.run()
	ev = event(r, trace.Admin, "bal import end", trace.Attr{Key: trace.KeyCount, Value: strconv.FormatInt(end.Messages, 10)})
	ev.BAL = string(b.Address)
	s.Store.Record(ev)
	return nil // it has been told in the stream
}

// run imports until the end of the stream or the first fault that concerns more than one message.
func (im *importer) run() TransferEnd {
	ctx, cancel := context.WithCancelCause(im.r.Context())
	defer cancel(nil)
	im.ctx = ctx
	todo := make(chan pending, transferWindow-2) // one more is waited for, one stands before the channel
	answered := make(chan TransferEnd, 1)
	go func() { answered <- im.answer(todo, cancel) }()
	err := im.take(todo)
	close(todo)
	end := <-answered
	im.s.importing.CompareAndDelete(im.bal.ID, im.mark) // before the last word: the command may come again at once
	if cause := context.Cause(ctx); err != nil && cause != nil && !errors.Is(cause, context.Canceled) {
		err = cause // what the answering goroutine met comes first
	}
	if err == nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		p := problem(err)
		if im.s.isStopping() {
			p = errStopping
		} else {
			im.s.Log.Warn("import broken off", "bal", string(im.bal.Address), "err", err)
		}
		_ = im.out.doc(frameProblem, p) // the command may have gone away
	} else {
		_ = im.out.doc(frameEnd, end)
	}
	_ = im.flush()
	if err != nil {
		// The command reads this at its leisure: were the connection closed while it still sends, it could not.
		_ = im.rc.SetReadDeadline(time.Now().Add(readTimeout))
		_, _ = io.Copy(io.Discard, im.in.r)
	}
	return end
}

// answer waits for the commits. A fault that is not of one message alone ends the import.
func (im *importer) answer(todo <-chan pending, cancel context.CancelCauseFunc) (end TransferEnd) {
	failed := false // those behind it are waited for and counted, but not answered
	stop := func(err error) {
		failed = true
		cancel(err)
		_ = im.rc.SetReadDeadline(time.Unix(1, 0)) // wakes the reader
	}
	for p := range todo {
		if p.wait != nil {
			var err error
			if p.answer, err = im.stored(p); err != nil {
				stop(err)
				continue
			}
		}
		switch p.answer.Outcome {
		case TransferStored:
			end.Messages++
		case TransferPresent:
			end.Present++
		default:
			end.Refused++
		}
		if failed {
			continue
		}
		_ = im.rc.SetWriteDeadline(time.Now().Add(transferStall))
		err := im.out.doc(frameAnswer, p.answer)
		if err == nil && len(todo) == 0 {
			err = im.flush()
		}
		if err != nil {
			stop(err)
		}
	}
	return end
}

// flush lets the command read what was written.
func (im *importer) flush() error {
	return cmp.Or(im.out.w.Flush(), im.rc.Flush())
}

// stored waits for one commit.
func (im *importer) stored(p pending) (TransferAnswer, error) {
	defer p.batch.Blob.Abort()
	_, err := p.wait()
	note := ""
	if errors.Is(err, store.ErrLimit) || errors.Is(err, store.ErrKeyword) {
		// Better without keywords than not at all.
		op := p.batch.Ops[0].(store.AddMessage)
		op.Keywords, note = nil, "without its keywords: the mailbox has as many as it may"
		p.batch.Ops[0] = op
		_, err = im.s.Store.Commit(im.r.Context(), p.batch)
	}
	if err != nil {
		return TransferAnswer{}, err
	}
	return TransferAnswer{TransferStored, note}, nil
}

// take reads the stream.
func (im *importer) take(todo chan<- pending) error {
	kind, payload, err := im.next()
	if err != nil {
		return err
	}
	if kind != frameHead {
		return errFrame
	}
	if im.head, err = frameDoc[TransferHead](payload); err != nil {
		return err
	}
	for {
		kind, payload, err := im.next()
		if err != nil {
			return err
		}
		switch kind {
		case frameMailbox:
			doc, err := frameDoc[TransferMailbox](payload)
			if err == nil {
				err = im.mailbox(doc)
			}
			if err != nil {
				return err
			}
		case frameMessage:
			doc, err := frameDoc[TransferMessage](payload)
			if err != nil {
				return err
			}
			p, err := im.message(doc)
			if err != nil {
				return err
			}
			todo <- p
		case frameEnd:
			return nil
		default:
			return errFrame
		}
	}
}

func (im *importer) next() (byte, []byte, error) {
	_ = im.rc.SetReadDeadline(time.Now().Add(transferStall))
	// After the deadline was set: whoever wakes us has cancelled before.
	if err := context.Cause(im.ctx); err != nil {
		return 0, nil, err
	}
	return im.in.next()
}

// mailbox makes a mailbox that is not there, with its special use where no other has it.
func (im *importer) mailbox(doc TransferMailbox) error {
	if len(im.boxes) >= store.MaxMailbox {
		return badRequest("the source has more than %d mailboxes", store.MaxMailbox)
	}
	name := doc.Name
	if im.head.Into != "" {
		name = im.head.Into + "/" + name
	}
	m, err := im.s.Store.Mailbox(im.bal.ID, name)
	if err == nil && m.Created {
		im.aim(doc.Name, m.Ref)
		return nil
	}
	op := store.CreateMailbox{BAL: im.bal.ID, Name: name}
	if knownUse(doc.SpecialUse) && im.head.Into == "" && !im.uses[doc.SpecialUse] {
		op.SpecialUse = doc.SpecialUse
		im.uses[doc.SpecialUse] = true
	}
	ev := event(im.r, trace.Mailbox, "bal import: create")
	ev.BAL = string(im.bal.Address)
	batch := &store.Batch{Ops: []store.Op{op}, Events: []trace.Event{ev}}
	if doc.Subscribed {
		batch.Ops = append(batch.Ops, store.Subscribe{BAL: im.bal.ID, Name: name, On: true})
	}
	res, err := im.s.Store.Commit(im.ctx, batch)
	if errors.Is(err, store.ErrMailboxExists) { // a client made it just now
		if m, err = im.s.Store.Mailbox(im.bal.ID, name); err == nil {
			im.aim(doc.Name, m.Ref)
		}
		return err
	}
	if err != nil {
		return err
	}
	im.aim(doc.Name, res.Ops[0].Ref)
	return nil
}

// aim notes where the messages of a name go; two names of the source can be one here (INBOX and inbox).
func (im *importer) aim(name string, ref store.Ref) {
	for _, t := range im.boxes {
		if t.ref == ref {
			im.boxes[name] = t
			return
		}
	}
	im.boxes[name] = &target{ref: ref}
}

// knownUse holds special uses to those that stay with a mailbox (RFC 6154; RFC 8457).
func knownUse(use string) bool {
	return slices.Contains([]string{`\All`, `\Archive`, `\Drafts`, `\Flagged`, `\Junk`, `\Sent`, `\Trash`, `\Important`}, use)
}

// message takes one message in, as an APPEND is: no NUL, not empty, not too large (imapd). The error is one that ends
// the import.
func (im *importer) message(doc TransferMessage) (pending, error) {
	box := im.boxes[doc.Mailbox]
	if box == nil {
		return pending{}, fmt.Errorf("%w: a message of a mailbox that was not named", errFrame)
	}
	if free, err := im.s.Store.FreeSpace(); err == nil && free < im.s.Store.SpaceFloor() {
		return pending{}, store.ErrNoSpace
	}
	blob, err := im.s.Store.NewBlob()
	if err != nil {
		return pending{}, err
	}
	keep := false
	defer func() {
		if !keep {
			blob.Abort()
		}
	}()
	scan, sum := message.NewScanner(), sha256.New()
	fault, err := im.body(func(p []byte) error {
		sum.Write(p)
		if _, err := blob.Write(p); err != nil {
			return err
		}
		_, err := scan.Write(p)
		return err
	})
	if err != nil {
		return pending{}, err
	}
	if fault != "" {
		return pending{answer: TransferAnswer{TransferRefused, fault}}, nil
	}
	meta, text := scan.Finish()
	if doc.Date.IsZero() {
		// Always the same, so that the message is known again.
		doc.Date = cmp.Or(meta.SentDate, time.Unix(0, 0))
	}
	if year := doc.Date.UTC().Year(); year < 1 || year > 9999 {
		doc.Date = time.Unix(0, 0)
	}
	if there, err := im.there(box, doc.Date, blob.Size(), [32]byte(sum.Sum(nil))); err != nil {
		return pending{}, err
	} else if there {
		return pending{answer: TransferAnswer{Outcome: TransferPresent}}, nil
	}
	if err := blob.Finish(meta, text); err != nil {
		return pending{}, err
	}
	batch := im.batch(box.ref, doc, blob)
	wait, err := im.s.Store.Submit(im.ctx, batch)
	if err != nil {
		return pending{}, err
	}
	keep = true
	return pending{batch: batch, wait: wait}, nil
}

func (im *importer) batch(ref store.Ref, doc TransferMessage, blob *store.Blob) *store.Batch {
	ev := event(im.r, trace.Appended, "bal import", trace.Attr{Key: trace.KeySize, Value: strconv.FormatInt(blob.Size(), 10)})
	ev.BAL, ev.Mailbox = string(im.bal.Address), uint32(ref.Mailbox)
	op := store.AddMessage{Ref: ref, Keywords: doc.Keywords, Date: doc.Date, Size: blob.Size(), Delivery: im.head.OverQuota}
	for _, f := range flagNames {
		if slices.Contains(doc.Flags, f.name) {
			op.Flags |= f.flag
		}
	}
	return &store.Batch{Blob: blob, Ops: []store.Op{op}, Events: []trace.Event{ev}}
}

// body reads the octets of a message to their end, also where they are refused: fault says why.
func (im *importer) body(put func([]byte) error) (fault string, err error) {
	size := int64(0)
	for {
		kind, payload, err := im.next()
		switch {
		case err != nil:
			return "", err
		case kind == frameDone:
			done, err := frameDoc[TransferDone](payload)
			if fault = cmp.Or(done.Error, fault); fault == "" && size == 0 {
				fault = "it has no octets"
			}
			return fault, err
		case kind != frameData:
			return "", errFrame
		}
		size += int64(len(payload))
		switch {
		case fault != "":
		case size > im.s.MaxImport:
			fault = fmt.Sprintf("it is larger than %d octets, the most that this server takes", im.s.MaxImport)
		case bytes.IndexByte(payload, 0) >= 0:
			fault = "it holds a NUL octet, which mail never does" // RFC 9051, Section 4.3.1
		default:
			if err := put(payload); err != nil {
				return "", err
			}
		}
	}
}

// there reports whether the mailbox held this message before: same internal date, same octets. This is what makes an
// import that broke off, wherever it did, go on without a second copy.
func (im *importer) there(box *target, date time.Time, size int64, sum [32]byte) (bool, error) {
	if !box.looked {
		if err := im.look(box); err != nil {
			return false, err
		}
	}
	want := presentRow{date: date.Unix(), size: size}
	i, _ := slices.BinarySearchFunc(box.present, want, presentRow.compare)
	for ; i < len(box.present) && box.present[i].compare(want) == 0; i++ {
		p := &box.present[i]
		if p.taken {
			continue
		}
		same, err := im.same(p.id, sum)
		if err != nil {
			return false, err
		}
		if same {
			p.taken = true
			return true, nil
		}
	}
	return false, nil
}

func (p presentRow) compare(q presentRow) int {
	return cmp.Or(cmp.Compare(p.date, q.date), cmp.Compare(p.size, q.size))
}

func (im *importer) look(box *target) error {
	m, err := im.s.Store.MailboxByRef(box.ref)
	if err != nil {
		return err
	}
	box.looked = true
	if m.Messages == 0 {
		return nil
	}
	box.present = make([]presentRow, 0, m.Messages)
	err = im.s.Store.Rows(im.ctx, m.Ref, []store.Run{{First: 1, Count: uint32(m.UIDNext) - 1}}, func(r store.Row) bool {
		box.present = append(box.present, presentRow{date: r.Date.Unix(), size: r.Size, id: r.Message})
		return true
	})
	slices.SortStableFunc(box.present, presentRow.compare)
	return err
}

// same compares a stored message, prefix and all. One that cannot be read is another one: a second copy heals.
func (im *importer) same(id store.MessageID, sum [32]byte) (bool, error) {
	c, err := im.s.Store.OpenMessage(im.bal.ID, id)
	switch {
	case errors.Is(err, store.ErrNoMessage), errors.Is(err, store.ErrMissing), errors.Is(err, store.ErrCorrupt):
		return false, nil
	case err != nil:
		return false, err
	}
	defer c.Close()
	h := sha256.New()
	if _, err := io.Copy(h, io.NewSectionReader(c, 0, c.Size())); err != nil {
		return false, nil
	}
	return [32]byte(h.Sum(nil)) == sum, nil
}
