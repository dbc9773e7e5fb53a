package smtpd

import (
	"bufio"
	"crypto/tls"
	"log/slog"
	"net"
	"testing"

	"mssd/auth/psctest"
)

// BenchmarkSubmissionLogin is a workstation's connection: STARTTLS, resumed, XOAUTH2 with a token that is known, a short message
// in the second form, QUIT. Both ends run here.
func BenchmarkSubmissionLogin(b *testing.B) {
	m := newMembers(b, func(s *Server) { s.Log, s.MaxConnsPerAddr = slog.New(slog.DiscardHandler), 10_000 })
	token := xoauth2(pharmacy, m.psc.Token(psctest.Claims{NameID: "899900000052"}))
	cfg := m.clientConfig("none")
	cfg.ClientSessionCache = tls.NewLRUClientSessionCache(0)
	for _, send := range []bool{false, true} {
		name := "login"
		if send {
			name = "login and message"
		}
		b.Run(name, func(b *testing.B) {
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					c, err := net.Dial("tcp", m.addr)
					if err != nil {
						b.Error(err)
						return
					}
					p := &peer{b, c, bufio.NewReader(c)}
					p.expect("220 ")
					p.cmd("STARTTLS", "220 ")
					t := tls.Client(c, cfg)
					check(b, t.Handshake())
					p.conn, p.br = t, bufio.NewReader(t)
					p.cmd("EHLO poste.test", "250 ")
					p.cmd("AUTH XOAUTH2 "+token, "235 ")
					if send {
						p.deliver(pharmacy, doctor, note)
					}
					p.cmd("QUIT", "221 ")
					t.Close()
				}
			})
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "sessions/s")
		})
	}
}
