package smtpd

import (
	"errors"
	"io"
	"strings"
)

// errAborted says that the peer gave a message up between two chunks. It has its answer.
var errAborted = errors.New("smtpd: message given up")

// chunked reads a message sent by BDAT (RFC 3030) and writes it to sink. go-smtp believes that it is
// DATA: its own BDAT copies through a goroutine which may outlive a RSET and then spoil the next
// message, and takes a broken connection for the end of the chunk.
func (w *wire) chunked(sink io.Writer) error {
	for {
		if err := w.readChunk(sink); err != nil {
			if !errors.Is(err, errGone) {
				w.feed = []byte(".\r\n")
			}
			return err
		}
		if w.last {
			w.feed = []byte(".\r\n")
			return nil
		}
		w.mu.Lock()
		if !w.dead {
			w.putReply("250 2.0.0 continue")
		}
		w.mu.Unlock()
		if err := w.nextChunk(); err != nil {
			return err
		}
	}
}

// readChunk reads one chunk to its end, whether sink wants it or not.
func (w *wire) readChunk(sink io.Writer) error {
	b := windows.Get().(*[]byte)
	defer windows.Put(b)
	var refused error
	for w.chunk > 0 {
		p := (*b)[:min(w.chunk, windowSize)]
		n := copy(p, w.in)
		if w.in = w.in[n:]; n == 0 {
			var err error
			if n, err = w.recv(p); err != nil {
				return errGone
			}
		}
		w.chunk -= int64(n)
		if refused == nil {
			_, refused = sink.Write(p[:n])
		}
		if refused != nil && w.chunk > 2*w.maxMsg+1<<20 {
			w.answer(refused)
			_ = w.end(errDrain)
			return errGone
		}
	}
	return refused
}

// nextChunk waits for the next BDAT. Commands that end the message are left for go-smtp.
func (w *wire) nextChunk() error {
	for {
		line, err := w.readLine()
		if err != nil {
			return errGone
		}
		if w.junk++; w.junk > maxJunk+w.maxRcpt {
			_ = w.end(errTooManyJunk)
			return errGone
		}
		text, err := checkLine(line)
		verb, args, _ := strings.Cut(text, " ")
		switch verb = strings.ToUpper(verb); {
		case err != nil:
			w.answer(err)
		case verb == "BDAT":
			if _, err := chunkLine(w, strings.TrimSpace(args)); err != nil {
				_ = w.end(err)
				return errGone
			}
			return nil
		case verb == "RSET", verb == "EHLO", verb == "HELO", verb == "QUIT":
			w.in = append(append([]byte(nil), line...), w.in...)
			w.feed = []byte(".\r\n")
			return errAborted
		case verb == "NOOP":
			w.mu.Lock()
			w.put([]byte("250 2.0.0 ok\r\n"))
			w.mu.Unlock()
		default:
			w.answer(errSequence)
		}
	}
}

// skipChunk drops the chunk of a BDAT that was refused before it was read: its octets are no commands.
func (w *wire) skipChunk() error {
	if w.chunk == 0 {
		return nil
	}
	if w.chunk > 2*w.maxMsg+1<<20 {
		return w.end(errTooLarge) // dropping it would take long, and nobody wants it
	}
	w.guard.StartTransfer()
	defer w.guard.EndTransfer()
	if err := w.readChunk(io.Discard); err != nil {
		return io.EOF
	}
	return nil
}
