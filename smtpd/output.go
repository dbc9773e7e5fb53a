package smtpd

import (
	"bytes"
	"log/slog"
	"strings"

	"mssd/delivery"
	"mssd/trace"
)

var errTooLarge = delivery.ErrTooLarge

// mark stands before the text of replies that are ours, to tell them from the library's own. It can
// stand in no text: oneLine and the reply table are printable.
const mark = "\x00"

// Write takes replies from go-smtp, whole or in pieces. They are sent when the session next waits.
func (w *wire) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.part = append(w.part, p...)
	for {
		i := bytes.IndexByte(w.part, '\n')
		if i < 0 {
			return len(p), nil
		}
		w.fromLibrary(string(bytes.TrimRight(w.part[:i+1], "\r\n")))
		w.part = w.part[i+1:]
	}
}

// fromLibrary puts one line of go-smtp into our words. w.mu is held.
func (w *wire) fromLibrary(line string) {
	switch {
	case w.dead:
	case !w.greeted:
		w.greeted = true
	case len(line) < 4:
	case w.ehlo:
		w.ehloLine(line)
	default:
		before, text, ours := strings.Cut(line, mark)
		switch {
		case ours && text == "", w.replyTo == "BDAT" && line[:3] == "354": // nobody asked
		case ours:
			w.putReply(before + text)
		case w.replyTo == "HELO" && line[:3] == "250": // RFC 5321, Section 4.1.1.1; RFC 2034, Section 4: no enhanced code
			w.putReply("250 " + w.host)
		default:
			w.putReply(libraryReply(w.replyTo, line))
		}
	}
}

// ehloLine filters the answer to EHLO: DSN is understood (parameters are parsed and kept), but not
// offered before receipts are sent.
func (w *wire) ehloLine(line string) {
	if line[:3] != "250" {
		w.ehlo = false
		w.putReply(libraryReply(w.replyTo, line))
		return
	}
	last := line[3] == ' '
	switch text := line[4:]; {
	case strings.HasPrefix(text, "Hello "):
		line = line[:4] + w.host
	case text == "DSN":
		if !last {
			return
		}
	}
	w.put([]byte(line + "\r\n"))
	if w.login != nil && len(w.login.mechanisms) > 0 && strings.HasPrefix(line[4:], w.host) && !last {
		w.put([]byte("250-AUTH " + strings.Join(w.login.mechanisms, " ") + "\r\n"))
	}
	w.ehlo = !last
}

// libraryReply is what a reply of go-smtp's own reads like here. Unknown ones become temporary.
func libraryReply(verb, line string) string {
	code, enhanced := line[:3], ""
	if f := strings.Fields(line); len(f) > 1 {
		enhanced = f[1]
	}
	var err error
	switch {
	case code == "354":
		return "354 end data with <CR><LF>.<CR><LF>"
	case code == "221":
		return "221 2.0.0 bye"
	case code == "252":
		return "252 2.5.0 cannot verify, send some mail"
	case code == "250":
		switch verb {
		case "MAIL":
			return "250 2.1.0 sender ok"
		case "RCPT":
			return "250 2.1.5 recipient ok"
		}
		return "250 2.0.0 ok"
	case code == "502": // the library says 502 where RFC 5321, Section 4.3.2 says 503
		err = errSequence
	case code == "504", code == "500" && enhanced == "5.5.4":
		err = errParameter
	case code == "501":
		err = errSyntax
	case code == "500":
		err = errCommand
	case code == "552":
		err = errTooLarge
	case code == "452":
		err = errTooManyRcpt
	case code == "421":
		err = errPanic
	}
	return strings.TrimSuffix(replyTo(err).line(), "\r\n")
}

// answer says a reply of our own, in turn.
func (w *wire) answer(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.dead {
		w.replyTo = w.verb
		w.putReply(strings.TrimSuffix(replyTo(err).line(), "\r\n"))
	}
}

// putReply queues a final line and counts refusals. w.mu is held.
func (w *wire) putReply(line string) {
	w.put([]byte(line + "\r\n"))
	if line[0] == '5' {
		w.errs++
	}
	var why error
	switch {
	case strings.HasPrefix(line, "421 "):
	case w.errs > w.maxErrs && w.replyTo == "RCPT":
		why = errTooManyBad
	case w.errs > w.maxErrs:
		why = errTooManyError
	default:
		return
	}
	if why != nil {
		w.put([]byte(replyTo(why).line()))
		w.guard.Line(w.log, slog.LevelInfo, "connection ended", "", "err", why.Error())
	}
	w.flushLocked()
	w.dead = true
	go w.kill() // not here: closing waits for w.mu
}

func (w *wire) put(b []byte) {
	if w.out = append(w.out, b...); len(w.out) > maxHold {
		w.flushLocked()
	}
}

// flush sends what is queued.
func (w *wire) flush() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.dead {
		w.flushLocked()
	}
}

func (w *wire) flushLocked() {
	if len(w.out) == 0 {
		return
	}
	_, err := w.Conn.Write(w.out)
	if cap(w.out) > 4096 {
		w.out = nil
	} else {
		w.out = w.out[:0]
	}
	if err != nil {
		w.dead = true
		return
	}
	w.unproven = append(w.unproven, w.said...)
	w.said = nil
}

// accepted is called before the 250 of a stored message is queued, by the goroutine of the connection.
func (w *wire) accepted(id trace.ID) {
	w.junk = 0
	w.mu.Lock()
	defer w.mu.Unlock()
	w.said = append(w.said, id)
	w.errs = 0
}
