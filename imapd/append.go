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

// RFC 9051, Section 6.3.12. The message streams into the store's spool and is scanned on the way; whatever can
// be refused is refused before its octets are asked for.
func (c *conn) cmdAppend(cmd *wire.Command) (response, error) {
	a, err := wire.ParseAppend(cmd)
	if err != nil {
		return response{}, err
	}
	m, err := c.appendable(a, cmd.Literal, store.Row{})
	if err != nil {
		return response{}, err
	}
	blob, sum, err := c.spool(cmd.Literal)
	if err != nil {
		return response{}, err
	}
	defer blob.Abort()
	return c.appendTo(m, a, blob, sum)
}

// appendable is the mailbox for a message that may come; old is that which it takes the place of, if any: its room
// counts.
func (c *conn) appendable(a wire.Append, lit *wire.Literal, old store.Row) (store.Mailbox, error) {
	if lit.Size == 0 {
		return store.Mailbox{}, errEmpty
	}
	m, g, err := c.target(a.Mailbox)
	if err == nil && !m.Created {
		err = store.ErrNoMailbox
	}
	if err != nil {
		return m, tryCreate(err)
	}
	if lit.Size > c.srv.MaxMessage {
		return m, errTooBig // RFC 7889, Section 4
	}
	bal, err := c.srv.Store.BALByID(g.BAL.ID)
	if err != nil {
		return m, err
	}
	if old.UID != 0 && c.sel.ref.BAL == bal.ID {
		bal.Octets -= old.Size
		bal.Messages--
	}
	if bal.Full(lit.Size) {
		return m, store.ErrOverQuota
	}
	return m, nil
}

// spool takes the message in. The end of the command is read before anything is stored: a command that goes
// on stores nothing. The second result is the SHA-256 of the message.
func (c *conn) spool(lit *wire.Literal) (*store.Blob, [32]byte, error) {
	blob, err := c.srv.Store.NewBlob()
	if err != nil {
		return nil, [32]byte{}, err
	}
	scan, sum := message.NewScanner(), sha256.New()
	if err := c.receive(lit, blob, scan, sum); err != nil {
		blob.Abort()
		return nil, [32]byte{}, err
	}
	meta, text := scan.Finish()
	if err := blob.Finish(meta, text); err != nil {
		blob.Abort()
		return nil, [32]byte{}, err
	}
	return blob, [32]byte(sum.Sum(nil)), nil
}

func (c *conn) receive(lit *wire.Literal, blob *store.Blob, scan *message.Scanner, sum hash.Hash) error {
	if err := lit.Accept(); err != nil {
		return err
	}
	c.guard.StartTransfer() // a minimum rate holds
	defer c.guard.EndTransfer()
	bp := buffers.Get().(*[]byte)
	defer buffers.Put(bp)
	buf := (*bp)[:cap(*bp)]
	for {
		n, err := lit.Read(buf)
		p := buf[:n]
		if bytes.IndexByte(p, 0) >= 0 {
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
			break
		}
		if err != nil {
			return fmt.Errorf("%w: %w", errCutOff, err)
		}
	}
	err := lit.Close()
	var syn *wire.SyntaxError
	if err != nil && !errors.As(err, &syn) {
		return fmt.Errorf("%w: %w", errCutOff, err)
	}
	return err
}

func (c *conn) appendTo(m store.Mailbox, a wire.Append, blob *store.Blob, sum [32]byte) (response, error) {
	res, err := c.srv.Store.Commit(c.ctx, &store.Batch{
		Blob: blob, Once: c.appendOnce(m, a, sum),
		Ops: []store.Op{store.AddMessage{Ref: m.Ref, Message: blob.ID(), Flags: storeFlag(a.Flags.System),
			Keywords: a.Flags.Keywords, Date: a.Date, Size: blob.Size()}},
		Events: []trace.Event{c.event(trace.Appended, m.Ref, "", trace.Attr{Key: trace.KeySize, Value: itoa(blob.Size())})},
	})
	if err != nil {
		return response{}, tryCreate(err)
	}
	c.appended(res.ID)
	done := res.Ops[0]
	if !res.Duplicate {
		c.put(m.Ref, done.New)
	}
	if len(done.New) == 0 {
		return okay("APPEND completed"), nil
	}
	code := wire.AppendAppendUID(nil, uint32(done.UIDValidity), uint32(done.New[0].First))
	return response{statusOK, string(code[1 : len(code)-1]), "APPEND completed"}, nil
}
