package admin

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"time"

	"mssd/store"
	"mssd/trace"
)

// flagNames are the system flags, as they travel.
var flagNames = []struct {
	flag store.Flag
	name string
}{{store.Seen, `\Seen`}, {store.Answered, `\Answered`}, {store.Flagged, `\Flagged`}, {store.Deleted, `\Deleted`}, {store.Draft, `\Draft`}}

// A streamer sends or takes a row of frames. What fails before the first frame is an answer like any other.
type streamer func(w http.ResponseWriter, r *http.Request) error

// stream makes a handler of a streamer: few at a time, without the time limits of short requests, ended by Shutdown.
func (s *Server) stream(pattern string, h streamer) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		select {
		case s.transfers <- struct{}{}:
			defer func() { <-s.transfers }()
		default:
			writeProblem(w, &Problem{http.StatusServiceUnavailable,
				fmt.Sprintf("%d exports and imports are running already", maxTransfers), "try again when one of them is done"})
			return
		}
		ctx, cancel := context.WithCancel(r.Context())
		defer cancel()
		rc := http.NewResponseController(w)
		_ = rc.SetReadDeadline(time.Now().Add(transferStall)) // where it cannot be set, the server's limit holds
		stop := make(chan struct{})
		defer close(stop)
		go func() {
			select {
			case <-s.stopping:
				cancel()                                // before the deadline: who wakes looks at it
				_ = rc.SetReadDeadline(time.Unix(1, 0)) // wakes who reads
			case <-stop:
			}
		}()
		if err := h(w, r.WithContext(ctx)); err != nil {
			p := problem(err)
			if p.Status >= 500 {
				s.Log.Error("admin request failed", "cmd", pattern, "err", err)
			}
			writeProblem(w, p)
		}
	}
}

var errStopping = &Problem{http.StatusServiceUnavailable, "the daemon is stopping", "run the command again when it is up: what is done already is not done twice"}

// exporter sends one BAL.
type exporter struct {
	s      *Server
	ctx    context.Context
	rc     *http.ResponseController
	out    frameWriter
	buf    []byte
	end    TransferEnd
	octets int64
}

func (s *Server) balExport(w http.ResponseWriter, r *http.Request) error {
	b, err := s.Store.BAL(address(r.PathValue("address")))
	if err != nil {
		return err
	}
	if b.State == store.Destroyed { // an export of nothing would look like one of everything
		return store.ErrDestroyed
	}
	boxes, err := s.Store.Mailboxes(b.ID)
	if err != nil {
		return err
	}
	subs, err := s.Store.Subscriptions(b.ID)
	if err != nil {
		return err
	}
	// The act is on record before the first octet leaves.
	ev := event(r, trace.Admin, "bal export")
	ev.BAL = string(b.Address)
	if _, err := s.Store.Commit(r.Context(), &store.Batch{Events: []trace.Event{ev}}); err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	e := &exporter{s: s, ctx: r.Context(), rc: http.NewResponseController(w), out: newFrameWriter(w), buf: make([]byte, maxFrame)}
	_ = e.rc.SetReadDeadline(time.Time{}) // nothing more is read; the request ends with the connection
	err = e.run(b, boxes, subs)
	note := "complete"
	if err != nil {
		note = "broken off"
		p := problem(err)
		if s.isStopping() {
			p = errStopping
		} else {
			s.Log.Warn("export broken off", "bal", string(b.Address), "err", err)
		}
		_ = e.out.doc(frameProblem, p) // the command may have gone away
		_ = e.out.w.Flush()
	}
	ev = event(r, trace.Admin, "bal export end", trace.Attr{Key: trace.KeyCount, Value: strconv.FormatInt(e.end.Messages, 10)},
		trace.Attr{Key: trace.KeySize, Value: strconv.FormatInt(e.octets, 10)}, trace.Attr{Key: trace.KeyNote, Value: note})
	ev.BAL = string(b.Address)
	s.Store.Record(ev)
	return nil // it has been told in the stream
}

func (e *exporter) run(b store.BAL, boxes []store.Mailbox, subs []string) error {
	boxes = slices.DeleteFunc(boxes, func(m store.Mailbox) bool { return !m.Created })
	if err := e.out.doc(frameHead, TransferHead{Address: string(b.Address), Messages: b.Messages, Octets: b.Octets}); err != nil {
		return err
	}
	for _, m := range boxes {
		_, subscribed := slices.BinarySearch(subs, m.Name)
		doc := TransferMailbox{Name: m.Name, SpecialUse: m.SpecialUse, Subscribed: subscribed, UIDValidity: uint32(m.UIDValidity)}
		if err := e.out.doc(frameMailbox, doc); err != nil {
			return err
		}
	}
	for _, m := range boxes {
		if err := e.mailbox(m); err != nil {
			return err
		}
	}
	if err := e.out.doc(frameEnd, e.end); err != nil {
		return err
	}
	return e.out.w.Flush()
}

// mailbox sends the messages that were there when it began: what comes meanwhile is not waited for.
func (e *exporter) mailbox(m store.Mailbox) error {
	if m.UIDNext <= 1 {
		return nil
	}
	var failed error
	err := e.s.Store.Rows(e.ctx, m.Ref, []store.Run{{First: 1, Count: uint32(m.UIDNext) - 1}}, func(row store.Row) bool {
		failed = e.message(m, row)
		return failed == nil
	})
	return cmp.Or(failed, err)
}

// message sends one message. One that cannot be read is told of, and the next one follows.
func (e *exporter) message(m store.Mailbox, row store.Row) error {
	if err := e.ctx.Err(); err != nil {
		return err
	}
	_ = e.rc.SetWriteDeadline(time.Now().Add(transferStall))
	c, err := e.s.Store.OpenMessage(m.BAL, row.Message)
	if errors.Is(err, store.ErrNoMessage) {
		return nil // expunged meanwhile
	}
	unreadable := errors.Is(err, store.ErrMissing) || errors.Is(err, store.ErrCorrupt)
	if err != nil && !unreadable {
		return err
	}
	doc := TransferMessage{Mailbox: m.Name, UID: uint32(row.UID), Keywords: e.s.Store.Keywords(row.Keywords), Date: row.Date,
		SaveDate: row.SaveDate, Size: row.Size, ID: row.Message.String()}
	for _, f := range flagNames {
		if row.Flags&f.flag != 0 {
			doc.Flags = append(doc.Flags, f.name)
		}
	}
	if !unreadable {
		if meta, err := e.s.Store.Meta(e.ctx, row.Message); err == nil && len(meta.MessageID) <= 998 {
			doc.MessageID = meta.MessageID
		}
	}
	if err := e.out.doc(frameMessage, doc); err != nil {
		return err
	}
	var done TransferDone
	if unreadable {
		e.damaged(row, err, &done)
	} else {
		defer c.Close()
		if err := e.octetsOf(c, row, &done); err != nil {
			return err
		}
	}
	if done.Error == "" {
		e.end.Messages++
		e.octets += row.Size
	}
	return e.out.doc(frameDone, done)
}

func (e *exporter) octetsOf(c *store.Content, row store.Row, done *TransferDone) error {
	sum := sha256.New()
	for off, size := int64(0), c.Size(); off < size; {
		n, err := c.ReadAt(e.buf[:min(size-off, maxFrame)], off)
		if n > 0 {
			sum.Write(e.buf[:n])
			if err := e.out.frame(frameData, e.buf[:n]); err != nil {
				return err
			}
			off += int64(n)
		}
		if err != nil && !(errors.Is(err, io.EOF) && off == size) {
			e.damaged(row, err, done)
			return nil
		}
		_ = e.rc.SetWriteDeadline(time.Now().Add(transferStall))
	}
	done.SHA256 = hex.EncodeToString(sum.Sum(nil))
	return nil
}

func (e *exporter) damaged(row store.Row, err error, done *TransferDone) {
	e.end.Damaged++
	e.s.Log.Error("export: a message cannot be read", "id", row.Message.String(), "err", err)
	done.Error = "its body is missing or damaged in the store (mssd fsck --bodies says more)"
}
