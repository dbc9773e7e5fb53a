package imapd

import (
	"errors"
	"slices"
	"strconv"

	"mssd/imapd/wire"
	"mssd/message"
	"mssd/store"
	"mssd/trace"
)

// fetch is one running FETCH.
type fetch struct {
	*conn
	args    wire.Fetch
	meta    bool // an item needs the structure of the message
	body    bool // an item reads octets of the message
	mark    bool // \Seen is to be set
	found   int
	failed  int // messages whose content cannot be read
	unknown int // messages with a part that cannot be decoded
	fetched []store.Run
	unseen  []store.Run // fetched, and without \Seen until now
}

// RFC 9051, Section 6.4.5. Rows come in pages from short transactions, bodies are streamed from the blob;
// nothing is locked while the client reads.
func (c *conn) cmdFetch(cmd *wire.Command) (response, error) {
	args, err := wire.ParseFetch(cmd)
	if err != nil {
		return response{}, err
	}
	runs, err := c.messages(args.Set, args.UID)
	if err != nil {
		return response{}, err
	}
	f := &fetch{conn: c, args: args}
	if args.HasPartial {
		runs = window(runs, args.Partial)
	}
	f.plan()
	if args.HasChangedSince || f.has(wire.FetchModSeq) {
		c.enableCondStore()
	}
	if args.Vanished {
		if !c.qresync {
			return response{}, errQResync
		}
		if err := c.tellGone(args.ChangedSince, args.Set); err != nil {
			return response{}, err
		}
	}
	var rowErr error
	err = c.srv.Store.Rows(c.ctx, c.sel.ref, runs, func(r store.Row) bool {
		rowErr = f.row(r)
		return rowErr == nil && c.out.err == nil
	})
	f.traced()
	if err = errors.Join(err, rowErr); err != nil {
		return response{}, err
	}
	if c.out.err != nil {
		if errors.Is(c.out.err, errBody) {
			c.log.Error("a fetch was cut off", "err", c.out.err)
		}
		c.bye = true
		return response{}, nil
	}
	if err := f.markSeen(); errors.Is(err, store.ErrNoSpace) || errors.Is(err, store.ErrNoWrite) || errors.Is(err, store.ErrSlow) {
		// The client has its messages: they can be read where nothing can be written, and stay unseen.
		c.log.Warn("what was fetched could not be marked as seen", "err", err)
	} else if err != nil {
		return response{}, err
	}
	return f.end(cmd.Name, runsCount(runs))
}

// messages turns a set of the client into the UIDs of the view.
func (c *conn) messages(set wire.Set, uid bool) ([]store.Run, error) {
	if set.Saved {
		return c.sel.view.hold(c.sel.saved), nil
	}
	if uid {
		return c.sel.view.uids(set), nil
	}
	if c.uidOnly {
		return nil, errUIDRequired // a number within UID SEARCH
	}
	runs, ok := c.sel.view.seqs(set)
	if !ok {
		return nil, errNumber
	}
	return runs, nil
}

// plan looks once at what the items need, and puts UID in front where the command speaks in UIDs
// (RFC 9051, Section 6.4.9).
func (f *fetch) plan() {
	for _, it := range f.args.Items {
		switch it.Kind {
		case wire.FetchEnvelope, wire.FetchBody, wire.FetchBodyStructure, wire.FetchThreadID:
			f.meta = true
		case wire.FetchPreview:
			f.meta, f.body = true, true
		case wire.FetchBinary, wire.FetchBinarySize:
			f.meta, f.body = true, true
			f.mark = f.mark || !it.Peek && !f.sel.readOnly
		case wire.FetchSection:
			f.body = true
			f.meta = f.meta || len(it.Section.Part) > 0 || it.Section.Text != wire.SectionAll
			f.mark = f.mark || !it.Peek && !f.sel.readOnly
		}
	}
	if f.args.UID && !f.uidOnly && !f.has(wire.FetchUID) {
		f.args.Items = append([]wire.FetchItem{{Kind: wire.FetchUID}}, f.args.Items...)
	}
	// RFC 7162, Section 3.1.4.1: CHANGEDSINCE asks for MODSEQ too.
	if f.args.HasChangedSince && !f.has(wire.FetchModSeq) {
		f.args.Items = append(f.args.Items, wire.FetchItem{Kind: wire.FetchModSeq})
	}
}

func (f *fetch) has(k wire.FetchKind) bool {
	return slices.ContainsFunc(f.args.Items, func(it wire.FetchItem) bool { return it.Kind == k })
}

// row answers for one message. What could fail is opened before the first octet of the answer is written.
func (f *fetch) row(r store.Row) error {
	seq := f.sel.view.seq(r.UID)
	if seq == 0 {
		return nil
	}
	if over := f.over.Load(); over != nil {
		return *over
	}
	f.found++
	if f.args.HasChangedSince && uint64(r.ModSeq) <= f.args.ChangedSince {
		return nil
	}
	m := source{row: r}
	defer m.close()
	if err := f.open(&m); err != nil {
		if errors.Is(err, message.ErrEncoding) {
			f.unknown++
			return nil
		}
		if errors.Is(err, store.ErrMissing) || errors.Is(err, store.ErrCorrupt) || errors.Is(err, store.ErrNoMessage) {
			f.failed++
			f.log.Error("a message cannot be read", "uid", uint32(r.UID), "mailbox", uint32(f.sel.ref.Mailbox), "err", err)
			return nil
		}
		return err
	}
	if f.meta || f.body {
		f.out.apart() // from the text of other messages
	}
	f.out.add(func(b []byte) []byte { return f.head(b, seq, r.UID) })
	for i, it := range f.args.Items {
		if i > 0 {
			f.out.str(" ")
		}
		if err := f.item(&m, it); err != nil {
			return nil // out.err says it; the connection is closed
		}
	}
	f.out.str(")\r\n")
	if f.body {
		f.fetched = addRun(f.fetched, r.UID, 1)
	}
	if f.mark && r.Flags&store.Seen == 0 {
		f.unseen = addRun(f.unseen, r.UID, 1)
	}
	return nil
}

// open gets what the items need.
func (f *fetch) open(m *source) (err error) {
	if f.meta {
		if m.meta, err = f.srv.Store.Meta(f.ctx, m.row.Message); err != nil {
			return err
		}
	}
	if f.body {
		m.content, err = f.srv.Store.OpenMessage(f.sel.ref.BAL, m.row.Message)
	}
	if err != nil {
		return err
	}
	for _, it := range f.args.Items {
		if it.Kind == wire.FetchBinary || it.Kind == wire.FetchBinarySize {
			if err := m.measure(it); err != nil {
				return err
			}
		}
	}
	if f.has(wire.FetchThreadID) {
		m.thread, err = f.fetchThread(m)
	}
	return err
}

// item writes one data item with its name.
func (f *fetch) item(m *source, it wire.FetchItem) error {
	switch it.Kind {
	case wire.FetchSection:
		return f.section(m, it)
	case wire.FetchBinary, wire.FetchBinarySize:
		return f.binary(m, it)
	case wire.FetchPreview:
		return f.preview(m)
	}
	f.out.add(func(b []byte) []byte {
		switch it.Kind {
		case wire.FetchUID:
			return strconv.AppendUint(append(b, "UID "...), uint64(m.row.UID), 10)
		case wire.FetchFlags:
			return f.appendFlags(b, m.row)
		case wire.FetchInternalDate:
			return wire.AppendInternalDate(append(b, "INTERNALDATE "...), m.row.Date)
		case wire.FetchSize:
			return strconv.AppendInt(append(b, "RFC822.SIZE "...), m.row.Size, 10)
		case wire.FetchEnvelope:
			return append(append(b, "ENVELOPE "...), m.meta.Envelope...)
		case wire.FetchBody:
			return append(append(b, "BODY "...), m.meta.Body...)
		case wire.FetchBodyStructure:
			return append(append(b, "BODYSTRUCTURE "...), m.meta.BodyStructure...)
		case wire.FetchModSeq:
			return appendModSeq(b, m.row)
		case wire.FetchSaveDate:
			return wire.AppendInternalDate(append(b, "SAVEDATE "...), m.row.SaveDate)
		case wire.FetchEmailID:
			return append(append(append(b, "EMAILID ("...), f.emailID(m.row)...), ')')
		case wire.FetchThreadID:
			return append(append(append(b, "THREADID ("...), m.thread...), ')')
		}
		return b
	})
	return nil
}

// section writes a piece of the message. Header fields are cut out here, one item at a time: a command may ask for
// a thousand of them, and must not hold as many headers.
func (f *fetch) section(m *source, it wire.FetchItem) error {
	p, err := m.section(it.Section)
	if err != nil {
		f.out.err = errors.Join(errBody, err)
		return f.out.err
	}
	p = p.cut(it.Partial)
	f.out.str(it.Label)
	if p.none {
		f.out.str(" NIL")
		return nil
	}
	f.out.add(func(b []byte) []byte { return wire.AppendLiteralHead(append(b, ' '), p.n) })
	if p.data != nil {
		f.out.add(func(b []byte) []byte { return append(b, p.data...) })
		return f.out.err
	}
	return f.out.stream(m.content, p.off, p.n)
}

// traced records who read what: one event per command that reads bodies.
func (f *fetch) traced() {
	if len(f.fetched) > 0 {
		f.record(trace.Fetched, f.sel.ref, uidSet(f.fetched))
	}
}

// markSeen sets \Seen on what was read, in one commit, and tells of it.
func (f *fetch) markSeen() error {
	if len(f.unseen) == 0 {
		return nil
	}
	before := f.sel.modSeq
	res, err := f.srv.Store.Commit(f.ctx, &store.Batch{
		Ops:    []store.Op{store.StoreFlags{Ref: f.sel.ref, Runs: f.unseen, Mode: store.Add, Flags: store.Seen}},
		Events: []trace.Event{f.event(trace.Flagged, f.sel.ref, "", trace.Attr{Key: trace.KeyFlags, Value: `+\Seen`})},
	})
	if err != nil {
		return err
	}
	f.tellRows(res, before, false, f.args.UID)
	return nil
}

func (f *fetch) end(name string, wanted int) (response, error) {
	switch {
	case f.unknown > 0:
		return response{}, errUnknownCTE
	case f.failed > 0:
		return response{}, no("UNAVAILABLE", "The content of some messages cannot be read")
	case f.found < wanted && !f.args.UID:
		// Messages that others expunged (RFC 2180, Section 4.1.2; code of RFC 5530).
		return response{}, no("EXPUNGEISSUED", "Some of the messages no longer exist")
	}
	return okay(name + " completed"), nil
}

// source is one message being answered for.
type source struct {
	row     store.Row
	meta    *message.Meta
	content *store.Content
	decoded map[string]decodedPart // by part number
	thread  string                 // its name, where it was asked for
}

func (m *source) close() {
	if m.content != nil {
		m.content.Close()
	}
}
