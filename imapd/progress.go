package imapd

import (
	"time"

	"mssd/imapd/wire"
)

// progress is how far a long command is.
type progress struct {
	done, all int
	next      time.Time // of the next word
	looked    int
}

// maxUnseen is how many messages are judged between two looks at the clock.
const maxUnseen = 256

func (p *progress) begin(srv *Server, all int) {
	*p = progress{all: all, next: time.Now().Add(srv.Progress)}
}

// progress counts messages that a long search has looked at, and tells of them every now and then, so that a client
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
	s.out.line(`* OK [INPROGRESS (` + string(wire.AppendQuoted(nil, s.tag)) + ` ` + itoa(int64(p.done)) + ` ` + itoa(int64(max(p.all, p.done))) + `)] Still searching`)
	_ = s.out.flush() // out keeps the error
}
