package audit

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"mssd/trace"
)

// Witness is what the instance says of itself.
type Witness interface {
	// Messages is how many messages all BALs hold.
	Messages(context.Context) (int64, error)
	// Events are those of the trace so far, in order; each stands there once it is durable.
	Events() []trace.Event
	// Reload has trust files read again; kept says which were refused, so that the former stay.
	Reload(context.Context) (kept []string, err error)
}

const (
	traceWait = 15 * time.Second // for the trace of a stage after its last case
	traceLook = 20 * time.Millisecond
)

// player plays the cases of one stage, one after another.
type player struct {
	ctx     context.Context
	trust   *Trust
	front   front
	witness Witness

	results []Result
	plays   int     // each comes from an address of its own, by which its trace is found
	proofs  []proof // looked for at the end of the stage
}

// proof is what the trace must hold of a step.
type proof struct {
	result, step int
	source       string // network address of the peer
	want         want
	seen         seen
}

// want is what must be seen.
type want struct {
	at, reply string // the command that decides, and how its reply begins
	noCode    bool   // of a failed handshake: there is no reply whose code could be in the trace
	untraced  bool   // nothing that the trace would hold: the connection ends without a refusal
}

func (w want) stored() int64 {
	if w.at == "DATA" && strings.HasPrefix(w.reply, "250") {
		return 1
	}
	return 0
}

func (w want) text() string {
	s := fmt.Sprintf("%s %s; stored: %d", w.at, w.reply, w.stored())
	if w.stored() > 0 {
		return s + "; in the trace"
	}
	if w.untraced {
		return s
	}
	return s + "; refusal in the trace"
}

// The wants that many cases share.
var (
	accepted  = want{at: "DATA", reply: "250 2.0.0"}
	handshake = want{at: "STARTTLS", reply: alertPrefix, noCode: true}
)

func refused(reply string) want { return want{at: "MAIL", reply: reply} }

// begin begins a case.
func (p *player) begin(name, audit string) {
	p.results = append(p.results, Result{Name: name, Audit: audit})
}

func (p *player) result() *Result { return &p.results[len(p.results)-1] }

// fail notes that something of our own went wrong.
func (p *player) fail(does string, err error) {
	if err != nil {
		r := p.result()
		r.Steps = append(r.Steps, Step{Does: does, Expected: "done", Seen: "failed", Faults: []string{err.Error()}})
	}
}

// try sends one message on a connection of its own.
func (p *player) try(does string, m mail, w want) seen {
	return p.step(does, w, func(f front) seen {
		c, err := f.dial(p.ctx)
		if err != nil {
			return seen{At: "connect", Reply: broken(err).Error()}
		}
		defer c.close()
		s := c.open(f, m)
		if s.At != "" {
			return s
		}
		resumed := s.resumed
		s = c.deliver(m, p.trust.message(m, p.plays))
		s.resumed = resumed
		if s.id() != "" {
			_, _ = c.cmd("QUIT")
		}
		return s
	})
}

// step does one thing and judges what came of it, but for the trace, which is looked at later.
func (p *player) step(does string, w want, do func(front) seen) seen {
	f := p.front
	p.plays++
	source := net.IPv4(127, 77, byte(p.plays>>8), byte(p.plays))
	f.source = &net.TCPAddr{IP: source}
	st := Step{Does: does, Expected: w.text()}
	before, err := p.witness.Messages(p.ctx)
	if err != nil {
		p.fail(does, err)
		return seen{}
	}
	s := do(f)
	st.Seen = s.text()
	if after, err := p.witness.Messages(p.ctx); err != nil {
		st.Faults = append(st.Faults, err.Error())
	} else {
		n := after - before
		st.Stored = &n
		if n != w.stored() {
			st.Faults = append(st.Faults, fmt.Sprintf("%d messages stored, expected %d", n, w.stored()))
		}
	}
	if s.At != w.at || !strings.HasPrefix(s.Reply, w.reply) {
		st.Faults = append(st.Faults, "another reply than expected")
	}
	if s.fault != nil {
		st.Faults = append(st.Faults, s.fault.Error())
	}
	r := p.result()
	r.Steps = append(r.Steps, st)
	if !w.untraced {
		p.proofs = append(p.proofs, proof{len(p.results) - 1, len(r.Steps) - 1, source.String(), w, s})
	}
	return s
}

// reload has the instance read its trust files; refused says that one of them must be refused.
func (p *player) reload(refused bool) {
	kept, err := p.witness.Reload(p.ctx)
	switch {
	case err != nil:
		p.fail("the instance reads its files again", err)
	case refused:
		r := p.result()
		st := Step{Does: "the instance reads its files again", Expected: "the file is refused, the former one stays", Seen: "nothing was refused"}
		if len(kept) > 0 {
			st.Seen = "refused: " + p.trust.anonymous(strings.Join(kept, "; "))
		} else {
			st.Faults = []string{"the file was taken"}
		}
		r.Steps = append(r.Steps, st)
	case len(kept) > 0:
		p.fail("the instance reads its files again", errors.New(strings.Join(kept, "; ")))
	}
}

// finish waits for the trace, judges it, and gives each case its outcome.
func (p *player) finish() []Result {
	end := time.Now().Add(traceWait)
	for {
		events := p.witness.Events()
		open := 0
		for _, pr := range p.proofs {
			st := &p.results[pr.result].Steps[pr.step]
			if e := pr.in(events); e != nil {
				st.Trace, st.event = e.Line(), short(e)
			} else if len(st.Faults) == 0 { // what failed already is not waited for
				open++
			}
		}
		if open == 0 || time.Now().After(end) || p.ctx.Err() != nil {
			break
		}
		time.Sleep(traceLook)
	}
	for _, pr := range p.proofs {
		if st := &p.results[pr.result].Steps[pr.step]; st.Trace == "" {
			st.Faults = append(st.Faults, "the trace does not hold it")
		}
	}
	for i := range p.results {
		p.results[i].judge(p.ctx.Err())
	}
	return p.results
}

// judge passes a case of which every step was as expected.
func (r *Result) judge(ended error) {
	if r.Outcome == NotPlayed {
		return
	}
	r.Outcome = Pass
	if ended != nil && len(r.Steps) == 0 {
		r.Outcome, r.Why = Fail, "there was no time for it"
	} else if len(r.Steps) == 0 {
		r.Outcome, r.Why = Fail, "nothing was done"
	}
	for i := range r.Steps {
		st := &r.Steps[i]
		if st.Passed = len(st.Faults) == 0; !st.Passed {
			r.Outcome = Fail
		}
	}
}

// in finds the event that proves a step: of a message its commit under the identifier of the reply, of a refusal one from
// the peer's address with its command and code. Nil: there is none.
func (pr proof) in(events []trace.Event) *trace.Event {
	i := slices.IndexFunc(events, func(e trace.Event) bool {
		if pr.want.stored() > 0 {
			return e.Kind == trace.Committed && e.ID != 0 && e.ID.String() == pr.seen.id()
		}
		return e.Kind == trace.Refused && attr(e, trace.KeyRemote) == pr.source && attr(e, trace.KeyCommand) == pr.want.at &&
			(pr.want.noCode || attr(e, trace.KeyCode) == code(pr.want.reply))
	})
	if i < 0 {
		return nil
	}
	return &events[i]
}

// short is an event for the line of a report: what it is and why.
func short(e *trace.Event) string {
	s := e.ID.String() + " " + e.Kind.String()
	for _, k := range []string{trace.KeyCommand, trace.KeyCode, trace.KeyReason} {
		if v := attr(*e, k); v != "" {
			s += "; " + k + " " + v
		}
	}
	return s
}

// code is what the trace keeps of a reply: "550 5.7.1".
func code(reply string) string {
	f := strings.Fields(reply)
	return strings.Join(f[:min(2, len(f))], " ")
}

func attr(e trace.Event, key string) string {
	for _, a := range e.Attrs {
		if a.Key == key {
			return a.Value
		}
	}
	return ""
}

// message is what is sent: no two are alike, none says anything.
func (t *Trust) message(m mail, n int) string {
	return fmt.Sprintf("From: <%s>\r\nTo: <%s>\r\nSubject: autotest %d\r\nMessage-ID: <%d.%d@autotest.test>\r\nDate: %s\r\n"+
		"MIME-Version: 1.0\r\nContent-Type: text/plain\r\n\r\nMessage d'essai, sans contenu.\r\n",
		m.from, m.to, n, t.began.UnixNano(), n, t.began.UTC().Format(time.RFC1123Z))
}

// anonymous takes the folder of the run out of a text.
func (t *Trust) anonymous(s string) string {
	return strings.ReplaceAll(s, strings.TrimSuffix(t.List, "listeblanche.xml"), "")
}
