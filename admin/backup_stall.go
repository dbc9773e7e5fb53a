package admin

import (
	"cmp"
	"context"
	"net/http"
	"sync/atomic"
	"time"
)

// A backup keeps bodies from being removed for as long as its session is open. A command that was stopped (SIGSTOP), or
// hangs, keeps its connection open for ever: so the command says every minute that it is alive (POST …/alive), and a
// session of which nothing is heard for transferStall, or whose reader takes nothing for so long, ends.

// stallWrite is the most that one write deadline is for, octets.
const stallWrite = 256 << 10

func (s *Server) stalls() time.Duration { return cmp.Or(s.stall, transferStall) }

// pulse is when something was heard of a session.
type pulse struct {
	epoch time.Time // of the monotonic clock
	at    atomic.Int64
}

func newPulse() *pulse { return &pulse{epoch: time.Now()} }

func (p *pulse) beat() { p.at.Store(int64(time.Since(p.epoch))) }

func (p *pulse) silent() time.Duration { return time.Since(p.epoch) - time.Duration(p.at.Load()) }

// awaitSilence waits until nothing was heard for so long, or ctx ends; true in the first case.
func (p *pulse) awaitSilence(ctx context.Context, limit time.Duration) bool {
	for {
		left := limit - p.silent()
		if left <= 0 {
			return true
		}
		t := time.NewTimer(left)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return false
		}
	}
}

// patient gives each piece of an answer its own time to be taken.
type patient struct {
	http.ResponseWriter
	stall time.Duration
	beat  func()
}

func (p *patient) Write(b []byte) (n int, err error) {
	rc := http.NewResponseController(p.ResponseWriter)
	for err == nil && (n < len(b) || len(b) == 0) {
		_ = rc.SetWriteDeadline(time.Now().Add(p.stall)) // where it cannot be set nothing ends early
		var k int
		k, err = p.ResponseWriter.Write(b[n:min(len(b), n+stallWrite)])
		n += k
		p.beat()
		if len(b) == 0 {
			break
		}
	}
	return n, err
}

func (p *patient) Unwrap() http.ResponseWriter { return p.ResponseWriter }

// heard notes that something was heard of the session.
func (b *backups) heard() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.pulse != nil {
		b.pulse.beat()
	}
}

// backupAlive is told by the command that it is there.
func (s *Server) backupAlive(w http.ResponseWriter, r *http.Request) error {
	b := &s.backups
	b.mu.Lock()
	open := b.id != "" && b.id == r.PathValue("id")
	b.mu.Unlock()
	if !open {
		return &Problem{http.StatusNotFound, "this backup is not under way", "begin it again"}
	}
	b.heard()
	writeJSON(w, http.StatusOK, struct{}{})
	return nil
}

// tellAlive says every so often that the command is there, until ctx ends.
func (b *backupSession) tellAlive(ctx context.Context, every time.Duration) {
	t := time.NewTicker(every)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			_, _ = call[struct{}](ctx, b.c, "POST", b.path("alive"), struct{}{}) // the next request hears of what is wrong
		case <-ctx.Done():
			return
		}
	}
}
