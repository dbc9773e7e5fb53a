package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
)

// closingConn tells when it is closed.
type closingConn struct {
	net.Conn
	closed func()
}

func (c closingConn) Close() error {
	err := c.Conn.Close()
	c.closed()
	return err
}

// send sends one request; a refusal is a *Problem.
func (c *Client) send(req *http.Request) (*http.Response, error) {
	return c.sendTelling(req, func() {})
}

// sendTelling is send for a request whose body may block. closed is told when the connection is closed, from either side: the
// transport waits for the body of a request before it says so itself, so the body must be ended by it.
func (c *Client) sendTelling(req *http.Request, closed func()) (*http.Response, error) {
	tr := &http.Transport{DisableKeepAlives: true, DisableCompression: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		conn, err := d.DialContext(ctx, "unix", c.Socket)
		if err != nil {
			return nil, err
		}
		return closingConn{conn, closed}, nil
	}}
	resp, err := (&http.Client{Transport: tr}).Do(req)
	if err != nil {
		return nil, c.explain(err)
	}
	if resp.StatusCode == http.StatusOK {
		return resp, nil
	}
	defer resp.Body.Close()
	answer, _ := io.ReadAll(io.LimitReader(resp.Body, maxRequest))
	p := &Problem{Status: resp.StatusCode}
	if json.Unmarshal(answer, p) != nil || p.Text == "" {
		p.Text = "the daemon answered " + resp.Status
	}
	if coded := (&OwnerProblem{}); json.Unmarshal(answer, coded) == nil && coded.Code != "" {
		return nil, coded
	}
	return nil, p
}

func mailURL(address string) string {
	return "http://mssd/v1/bals/" + url.PathEscape(address) + "/mail"
}

// An Export is told what a BAL holds, in this order: Head, then each mailbox, then each message. body yields its octets and
// then io.EOF; where it yields ErrDamaged the message is not to be kept, and the next one follows. hash is good after
// io.EOF.
type Export struct {
	Head    func(TransferHead) error
	Mailbox func(TransferMailbox) error
	Message func(m TransferMessage, body io.Reader, hash func() string) error
}

// ErrDamaged says that a message cannot be read in the store.
var ErrDamaged = errors.New("this message is damaged in the store")

// ExportBAL takes the mail of a BAL out.
func (c *Client) ExportBAL(ctx context.Context, address string, to Export) (TransferEnd, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, mailURL(address), nil)
	if err != nil {
		return TransferEnd{}, err
	}
	resp, err := c.send(req)
	if err != nil {
		return TransferEnd{}, err
	}
	defer resp.Body.Close()
	in := newFrameReader(resp.Body)
	for {
		kind, payload, err := in.next()
		if err != nil {
			return TransferEnd{}, c.broken(err)
		}
		switch kind {
		case frameHead:
			err = give(payload, to.Head)
		case frameMailbox:
			err = give(payload, to.Mailbox)
		case frameMessage:
			err = give(payload, func(m TransferMessage) error {
				b := &transferBody{in: in}
				if err := to.Message(m, b, func() string { return b.done.SHA256 }); err != nil {
					return err
				}
				if _, err := io.Copy(io.Discard, b); err != nil && !errors.Is(err, ErrDamaged) {
					return err
				}
				return nil
			})
		case frameEnd:
			return frameDoc[TransferEnd](payload)
		case frameProblem:
			p, err := frameDoc[Problem](payload)
			if err != nil {
				return TransferEnd{}, err
			}
			return TransferEnd{}, &p
		default:
			err = errFrame
		}
		if err != nil {
			return TransferEnd{}, err
		}
	}
}

func give[T any](payload []byte, to func(T) error) error {
	doc, err := frameDoc[T](payload)
	if err != nil {
		return err
	}
	return to(doc)
}

func (c *Client) broken(err error) error {
	return fmt.Errorf("%s: the stream broke off; is the daemon still there? (mssd health; run the command again): %w", c.Socket, err)
}

// transferBody reads the data frames of one message.
type transferBody struct {
	in   *frameReader
	rest []byte
	err  error
	done TransferDone
}

func (b *transferBody) Read(p []byte) (int, error) {
	for len(b.rest) == 0 {
		if b.err != nil {
			return 0, b.err
		}
		kind, payload, err := b.in.next()
		switch {
		case err != nil:
			b.err = err
		case kind == frameData:
			b.rest = payload
		case kind == frameProblem:
			problem, err := frameDoc[Problem](payload)
			if b.err = err; err == nil {
				b.err = &problem
			}
		case kind != frameDone:
			b.err = errFrame
		default:
			b.done, b.err = frameDoc[TransferDone](payload)
			switch {
			case b.err != nil:
			case b.done.Error != "":
				b.err = fmt.Errorf("%w: %s", ErrDamaged, b.done.Error)
			default:
				b.err = io.EOF
			}
		}
	}
	n := copy(p, b.rest)
	b.rest = b.rest[n:]
	return n, nil
}

// Import is the other direction: the caller sends mailboxes and messages, and closes it with End.
type Import struct {
	c       *Client
	w       *io.PipeWriter
	out     frameWriter
	buf     []byte
	done    chan struct{} // closed when the daemon said its last word
	end     TransferEnd
	err     error
	respond func(n int64, a TransferAnswer)
}

// ImportBAL begins to put mail into a BAL. respond is told what became of the n-th message, in their order, by another
// goroutine than the caller's.
func (c *Client) ImportBAL(ctx context.Context, address string, head TransferHead, respond func(n int64, a TransferAnswer)) (*Import, error) {
	r, w := io.Pipe()
	im := &Import{c: c, w: w, out: newFrameWriter(w), buf: make([]byte, maxFrame), done: make(chan struct{}), respond: respond}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, mailURL(address), r)
	if err != nil {
		return nil, err
	}
	resp, err := c.sendTelling(req, func() { r.CloseWithError(io.ErrUnexpectedEOF) })
	if err != nil {
		r.CloseWithError(err)
		return nil, err
	}
	go func() {
		defer close(im.done)
		im.end, im.err = im.answers(resp.Body)
		if im.err != nil {
			r.CloseWithError(im.err) // ends what is being sent
		}
		resp.Body.Close()
	}()
	return im, im.put(frameHead, head)
}

func (im *Import) answers(body io.Reader) (TransferEnd, error) {
	in := newFrameReader(body)
	for n := int64(0); ; {
		kind, payload, err := in.next()
		if err != nil {
			return TransferEnd{}, im.c.broken(err)
		}
		switch kind {
		case frameAnswer:
			if err := give(payload, func(a TransferAnswer) error { im.respond(n, a); return nil }); err != nil {
				return TransferEnd{}, err
			}
			n++
		case frameEnd:
			return frameDoc[TransferEnd](payload)
		case frameProblem:
			p, err := frameDoc[Problem](payload)
			if err != nil {
				return TransferEnd{}, err
			}
			return TransferEnd{}, &p
		default:
			return TransferEnd{}, errFrame
		}
	}
}

// put sends a document. Where the daemon said why it goes no further, that is the error.
func (im *Import) put(kind byte, doc any) error { return im.why(im.out.doc(kind, doc)) }

func (im *Import) why(err error) error {
	if err == nil {
		return nil
	}
	im.w.CloseWithError(err)
	<-im.done
	if im.err != nil {
		return im.err
	}
	return err
}

// Mailbox sends a mailbox; it goes before its messages.
func (im *Import) Mailbox(m TransferMailbox) error { return im.put(frameMailbox, m) }

// Message sends a message. Where reading it fails it is not kept: the daemon answers with fault's words for the error.
func (im *Import) Message(m TransferMessage, body io.Reader, fault func(error) string) error {
	if err := im.put(frameMessage, m); err != nil {
		return err
	}
	var done TransferDone
	for {
		n, err := body.Read(im.buf)
		if n > 0 {
			if err := im.why(im.out.frame(frameData, im.buf[:n])); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			done.Error = fault(err)
			break
		}
	}
	return im.put(frameDone, done)
}

// End ends the stream and waits for the last answer.
func (im *Import) End() (TransferEnd, error) {
	if err := im.put(frameEnd, TransferEnd{}); err != nil {
		return TransferEnd{}, err
	}
	if err := im.why(im.out.w.Flush()); err != nil {
		return TransferEnd{}, err
	}
	<-im.done
	im.w.Close()
	return im.end, im.err
}

// Abort breaks the import off.
func (im *Import) Abort(err error) {
	im.w.CloseWithError(err)
	<-im.done
}
