package imapd

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"

	"mssd/imapd/wire"
	"mssd/message"
	"mssd/store"
	"mssd/trace"
)

// Bounds of one APPEND: what waits for the last message of it lies in the spool.
const (
	maxMessages     = 100       // messages
	maxFurtherOctet = 256 << 20 // octets of a command with several messages
)

// incoming is a message of an APPEND that has come whole.
type incoming struct {
	wire.Append
	blob *store.Blob
	sum  [32]byte // SHA-256
}

// RFC 9051, Section 6.3.12, and RFC 3502 for several messages: all of them or none. Each streams into the store's spool
// and is scanned on the way; whatever can be refused is refused before its octets are asked for.
func (c *conn) cmdAppend(cmd *wire.Command) (response, error) {
	a, err := wire.ParseAppend(cmd)
	if err != nil {
		return response{}, err
	}
	m, room, err := c.appendable(a, store.Row{})
	if err != nil {
		return response{}, err
	}
	msgs, err := c.spool(cmd, a, m.Ref, room)
	defer abort(msgs)
	if err == nil {
		err = c.mayStill(m.Ref.BAL)
	}
	if err != nil {
		return response{}, err
	}
	return c.appendTo(m, msgs)
}

func abort(msgs []incoming) {
	for _, in := range msgs {
		in.blob.Abort()
	}
}

// appendable is the mailbox for messages that may come, and its BAL, whose counts tell what room is left. old is that
// message which they take the place of, if any: its room counts.
func (c *conn) appendable(a wire.Append, old store.Row) (m store.Mailbox, room store.BAL, err error) {
	m, g, err := c.target(a.Mailbox)
	if err != nil {
		return m, room, tryCreate(err)
	}
	if room, err = c.srv.Store.BALByID(g.BAL.ID); err != nil {
		return m, room, err
	}
	if old.UID != 0 && c.sel.ref.BAL == room.ID {
		room.Octets -= old.Size
		room.Messages--
	}
	return m, room, nil
}

// fits refuses a message before its octets are asked for. n messages of so many octets came before it.
func (c *conn) fits(size int64, room store.BAL, n int, octets int64) error {
	switch {
	case size == 0:
		return errEmpty
	case size > c.srv.MaxMessage:
		return errTooBig // RFC 7889, Section 4
	case n >= maxMessages, n > 0 && octets+size > maxFurtherOctet:
		return errManyMessages
	case room.Full(size):
		return store.ErrOverQuota
	}
	return nil
}

// spool takes the messages of a command in. The end of the command is read before anything is stored: one that goes
// wrong stores nothing. The caller aborts what has come, also after an error.
func (c *conn) spool(cmd *wire.Command, a wire.Append, to store.Ref, room store.BAL) (msgs []incoming, err error) {
	octets := int64(0)
	for lit := cmd.Literal; lit != nil; {
		if err := c.fits(lit.Size, room, len(msgs), octets); err != nil {
			return msgs, err
		}
		room.Octets += lit.Size
		room.Messages++
		octets += lit.Size
		if len(msgs) > 0 { // another one follows: only the last keeps its file open
			if err := msgs[len(msgs)-1].blob.SealFor(to.BAL); err != nil {
				return msgs, err
			}
		}
		in := incoming{Append: a}
		if in.blob, err = c.srv.Store.NewBlob(); err != nil {
			return msgs, err
		}
		msgs = append(msgs, in)
		if lit, a, err = c.message(lit, &msgs[len(msgs)-1]); err != nil {
			return msgs, err
		}
		if lit != nil {
			cmd.Literal = lit // the one to be closed
		}
	}
	return msgs, nil
}

// message takes one message in, and what the command says behind it.
func (c *conn) message(lit *wire.Literal, in *incoming) (next *wire.Literal, a wire.Append, err error) {
	scan, sum := message.NewScanner(), sha256.New()
	if err := lit.Accept(); err != nil {
		return nil, a, err
	}
	c.guard.StartTransfer() // a minimum rate holds
	defer c.guard.EndTransfer()
	if err := c.receive(lit, in.blob, scan, sum); err != nil {
		return nil, a, err
	}
	meta, text := scan.Finish()
	if err := in.blob.Finish(meta, text); err != nil {
		return nil, a, err
	}
	in.sum = [32]byte(sum.Sum(nil))
	next, a, err = lit.Next()
	var syn *wire.SyntaxError
	if err != nil && !errors.As(err, &syn) && !errors.Is(err, wire.ErrFatal) {
		err = fmt.Errorf("%w: %w", errCutOff, err)
	}
	return next, a, err
}

func (c *conn) receive(lit *wire.Literal, blob *store.Blob, scan *message.Scanner, sum hash.Hash) error {
	bp := buffers.Get().(*[]byte)
	defer buffers.Put(bp)
	buf := (*bp)[:cap(*bp)]
	for {
		n, err := lit.Read(buf)
		p := buf[:n]
		if bytes.IndexByte(p, 0) >= 0 {
			if lit.Binary {
				return errBinary
			}
			return errNULLiteral
		}
		sum.Write(p)
		if _, werr := blob.Write(p); werr != nil {
			return werr
		}
		if _, werr := scan.Write(p); werr != nil {
			return werr
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("%w: %w", errCutOff, err)
		}
	}
}

func (c *conn) appendTo(m store.Mailbox, msgs []incoming) (response, error) {
	b := &store.Batch{Blob: msgs[0].blob, Once: c.appendOnce(m, msgs)}
	for i, in := range msgs {
		if i > 0 {
			b.Blobs = append(b.Blobs, in.blob)
		}
		b.Ops = append(b.Ops, in.op(m))
		e := c.event(trace.Appended, m.Ref, "", trace.Attr{Key: trace.KeySize, Value: itoa(in.blob.Size())})
		e.ID = in.blob.ID()
		b.Events = append(b.Events, e)
	}
	res, err := c.srv.Store.Commit(c.ctx, b)
	if err != nil {
		return response{}, tryCreate(err)
	}
	c.appended(res.ID)
	if !res.Duplicate {
		for _, done := range res.Ops {
			c.put(m.Ref, done.New)
		}
	}
	if len(res.Ops[0].New) == 0 {
		return okay("APPEND completed"), nil
	}
	code := appendUID(res.Ops)
	return response{statusOK, code[1 : len(code)-1], "APPEND completed"}, nil
}

func (in *incoming) op(m store.Mailbox) store.Op {
	return store.AddMessage{Ref: m.Ref, Message: in.blob.ID(), Flags: storeFlag(in.Flags.System), Keywords: in.Flags.Keywords,
		Date: in.Date, Size: in.blob.Size()}
}

// appendUID is the response code for messages of one batch: their UIDs are in a row.
func appendUID(ops []store.OpResult) string {
	first, last := ops[0], ops[len(ops)-1]
	return string(wire.AppendAppendUID(nil, uint32(first.UIDValidity), wire.Range{First: uint32(first.New[0].First), Last: uint32(last.New[0].First)}))
}
