package smtpd

import (
	"bytes"
	"io"
	"sync"
)

// windows are the buffers of running DATA transfers.
var windows = sync.Pool{New: func() any { b := make([]byte, windowSize); return &b }}

// dotReader finds the end of a message sent by DATA and takes the dots away that the sender put before
// lines beginning with one (RFC 5321, Section 4.5.2). Only CRLF.CRLF ends a message. Line ends are not
// judged here: whatever is odd is handed on as it came.
type dotReader struct {
	state dotState
	cr    bool // in dotMid: the octet before was CR
}

type dotState uint8

const (
	dotBegin dotState = iota // at the beginning of a line
	dotMid                   // inside a line
	dotDot                   // after a dot that began a line
	dotCR                    // after that dot and CR
)

// feed gives the pieces of the message in p to sink and reports how many octets of p belong to the
// message, its end included. After an error of sink nothing more is given to it.
func (d *dotReader) feed(p []byte, sink func([]byte)) (used int, end bool) {
	start, i := 0, 0
	give := func(to int) {
		if to > start {
			sink(p[start:to])
		}
	}
	for i < len(p) {
		switch d.state {
		case dotBegin:
			if p[i] != '.' {
				d.state, d.cr = dotMid, false
				continue
			}
			give(i)
			i++
			start = i
			d.state = dotDot
		case dotDot:
			if p[i] != '\r' {
				d.state, d.cr = dotMid, false
				continue
			}
			d.state = dotCR
			i++
			start = i
		case dotCR:
			if p[i] == '\n' {
				return i + 1, true
			}
			sink([]byte{'\r'})
			d.state, d.cr = dotMid, true
		case dotMid:
			n := bytes.IndexByte(p[i:], '\n')
			if n < 0 {
				d.cr = p[len(p)-1] == '\r'
				i = len(p)
				continue
			}
			crlf := d.cr
			if n > 0 {
				crlf = p[i+n-1] == '\r'
			}
			i += n + 1
			d.cr = false
			if crlf {
				d.state = dotBegin
			}
		}
	}
	give(len(p))
	return len(p), false
}

// message reads a message sent by DATA and writes it to sink. What follows a refusal by sink is read
// and dropped up to the end of the message, within bounds, so that it is never taken for commands.
// go-smtp is then shown an empty end of data.
func (w *wire) message(sink io.Writer) error {
	b := windows.Get().(*[]byte)
	defer windows.Put(b)
	var d dotReader
	var refused error
	give := func(p []byte) {
		if refused == nil {
			_, refused = sink.Write(p)
		}
	}
	for total := int64(0); ; {
		p := *b
		n := copy(p, w.in)
		if w.in = w.in[n:]; n == 0 {
			var err error
			if n, err = w.recv(p); err != nil {
				return errGone
			}
		}
		used, end := d.feed(p[:n], give)
		if end {
			w.in = append(append(make([]byte, 0, n-used+len(w.in)), p[used:n]...), w.in...)
			w.feed = []byte(".\r\n")
			return refused
		}
		if total += int64(used); refused != nil && total > 2*w.maxMsg+1<<20 {
			w.answer(refused)
			_ = w.end(errDrain)
			return errGone
		}
	}
}
