package imapd

import (
	"strings"
	"time"

	"mssd/imapd/wire"
)

// progress is how far a long command is.
type progress struct {
	done, all int       // messages of the part at hand: searched, read to be sorted, read for their references
	next      time.Time // of the next word
	looked    int       // messages since the last look at the clock
}

// maxUnseen is how many messages are judged by their rows, or read, between two looks at the clock.
const maxUnseen = 256

// part begins a part of a command, of so many messages. A client that sees the number go back knows that there is more to do
// (RFC 9585, Section 4).
func (s *search) part(all int) {
	p := &s.prog
	p.done, p.all = 0, all
	if p.next.IsZero() {
		p.next = time.Now().Add(s.srv.Progress)
	}
}

// progress counts messages that a long search is done with, and tells of them every now and then, so that a client
// knows that the server lives (RFC 9585, Section 4).
func (s *search) progress(n int) {
	p := &s.prog
	p.done += n
	if p.looked++; p.looked < maxUnseen && s.srv.Progress > time.Millisecond {
		return
	}
	s.tell()
}

// tell looks at the clock, and tells how far the search is when it is time.
func (s *search) tell() {
	p := &s.prog
	p.looked = 0
	now := time.Now()
	if now.Before(p.next) {
		return
	}
	p.next = now.Add(s.srv.Progress)
	s.out.line(p.line(s.tag))
	_ = s.out.flush() // out keeps the error
}

// line is one word about it. The number done is less than that of all; a tag that could be taken for the end of the code is
// not told.
func (p *progress) line(tag string) string {
	name := "NIL"
	if !strings.Contains(tag, "]") {
		name = string(wire.AppendQuoted(nil, tag))
	}
	all := max(p.all, 1)
	return "* OK [INPROGRESS (" + name + " " + itoa(int64(min(p.done, all-1))) + " " + itoa(int64(all)) + ")] Still searching"
}
