package smtpd

import (
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"mssd/store"
	"mssd/tlsconf"
	"mssd/trace"
)

// dialFrom connects from a loopback address of its own.
func (w *world) dialFrom(addr string) (net.Conn, error) {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(addr)}, Timeout: 30 * time.Second}
	return d.Dial("tcp", w.addr)
}

// 2,000 connections that say nothing and 200 that drip, from many addresses, hold every place there is: a partner's
// message still goes through, and so does one of an operator that nobody knows beforehand.
func TestFloodKeepsNobodyOut(t *testing.T) {
	w := newWorld(t, func(s *Server) { s.MaxConns, s.MaxConnsPerAddr, s.HandshakeTimeout = 1000, 500, time.Hour })
	var mu sync.Mutex
	var held []net.Conn
	t.Cleanup(func() {
		for _, c := range held {
			c.Close()
		}
	})
	hold := func(n int, first string) {
		var wg sync.WaitGroup
		for i := range n {
			wg.Go(func() {
				c, err := w.dialFrom(fmt.Sprintf("127.0.%d.%d", i/200+1, i%200+1))
				if err != nil {
					t.Error(err)
					return
				}
				_, _ = io.WriteString(c, first)
				mu.Lock()
				held = append(held, c)
				mu.Unlock()
			})
		}
		wg.Wait()
	}
	hold(2000, "")
	hold(200, "EHLO lent.te") // and never the rest
	if n := w.srv.Connections(); n > 1000 {
		t.Errorf("%d connections are held, 1000 are allowed", n)
	}
	start := time.Now()
	p := w.secure("patient")
	p.deliver(patient, pharmacy, prescription)
	// Bounded so that a slow machine does not fail; 2 s are wanted, some ms are seen.
	if took := time.Since(start); took > 10*time.Second {
		t.Errorf("a good peer's message took %v", took)
	} else {
		t.Logf("connect, handshake and delivery took %v", took)
	}
	hold(300, "") // who has proven itself stays
	p.deliver(patient, pharmacy, strings.Replace(prescription, "m1@", "m2@", 1))
	if n := len(w.inbox(pharmacy)); n != 2 {
		t.Errorf("%d messages were stored, want 2", n)
	}
}

// One operator cannot take all places with its certificate, unless it is a partner.
func TestConnectionsOfOneOperator(t *testing.T) {
	for _, partner := range []bool{false, true} {
		w := newWorld(t, func(s *Server) {
			s.MaxConnsPerPeer = 2
			if partner {
				s.Partners = []Partner{{DN: must(tlsconf.ParseDN("CN=mail.patient.test,OU=300000000000003,O=PLATEFORME PATIENT TEST,ST=Paris (75),C=FR"))(t), MaxConns: 3}}
			}
		})
		allowed := 2
		if partner {
			allowed = 3
		}
		for range allowed {
			w.secure("patient").cmd("NOOP", "250")
		}
		p := w.dial()
		p.expect("220 ")
		p.cmd("STARTTLS", "220 ")
		p.upgrade(w, "patient")
		p.cmd("EHLO client.test", "421 4.7.0 ")
		p.gone()
		w.secure("other").cmd("NOOP", "250") // others are not concerned
	}
}

// Refusals that are alike are folded: the trace holds the first ones and a count, the metrics none too few.
func TestRefusalsAreFolded(t *testing.T) {
	w := newWorld(t, func(s *Server) { s.MaxErrors = 1000 })
	p := w.secure("patient")
	p.cmd("MAIL FROM:<"+patient+">", "250")
	const n = 100
	for range n {
		p.cmd("RCPT TO:<personne@officine.test>", "550 5.1.1")
	}
	q := w.dial()
	q.expect("220 ")
	q.cmd("MAIL FROM:<"+patient+">", "530 5.7.0")
	check(t, w.srv.Shutdown(withTimeout(t)))
	// What was recorded rides on this commit.
	must(w.store.Commit(t.Context(), &store.Batch{Ops: []store.Op{store.SetBALState{Address: pharmacy, State: store.Active}}}))(t)
	var single, folded, early int
	for line := range strings.Lines(w.events.String()) {
		switch {
		case strings.Contains(line, "550 5.1.1") && strings.Contains(line, "{Key:"+trace.KeyCount+" Value:"+fmt.Sprint(n-trace.FoldAfter)+"}"):
			folded++
		case strings.Contains(line, "550 5.1.1"):
			single++
		case strings.Contains(line, "530 5.7.0"):
			early++
		}
	}
	if single != trace.FoldAfter || folded != 1 || early != 1 {
		t.Errorf("%d refusals one by one, %d folded, %d before TLS; want %d, 1, 1", single, folded, early, trace.FoldAfter)
	}
}
