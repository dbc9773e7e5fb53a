package smtpd

import (
	"bufio"
	"bytes"
	"io"
	"log/slog"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-smtp"
)

// FuzzSession sends any octets to a session after TLS. It must not panic, each reply line must be well
// formed and short, the connection must end, and the spool must be empty afterwards.
func FuzzSession(f *testing.F) {
	for _, s := range []string{
		"EHLO x\r\nMAIL FROM:<" + patient + ">\r\nRCPT TO:<" + pharmacy + ">\r\nDATA\r\nA: b\r\n\r\n..x\r\n.\r\nQUIT\r\n",
		"EHLO x\r\nMAIL FROM:<>\r\nRCPT TO:<postmaster>\r\nBDAT 3\r\nA:bBDAT 0 LAST\r\nRSET\r\n",
		"HELO x\r\nMAIL FROM:<" + patient + "> SIZE=1 RET=FULL ENVID=a+2Bb\r\nRCPT TO:<" + pharmacy + "> ORCPT=rfc822;a NOTIFY=NEVER\r\nBDAT 5 LAST\r\n",
		"NOOP\nNOOP\r\x00\r\n\r\nSTARTTLS\r\nAUTH PLAIN\r\n", ".\r\n", "BDAT 99999999\r\n",
	} {
		f.Add([]byte(s))
	}
	w := newWorld(f, func(s *Server) {
		s.Log = slog.New(slog.DiscardHandler)
		s.MaxMessage, s.MinRate = 10_000, -1
	})
	f.Fuzz(func(t *testing.T, in []byte) {
		p := w.as(t).secure("patient")
		p.hostile(t, in)
	})
}

// hostile sends any octets and nothing after them: each reply is well formed and none of those that may not come, then the
// connection ends.
func (p *peer) hostile(t *testing.T, in []byte, never ...string) {
	t.Helper()
	defer p.conn.Close()
	go func() {
		_, _ = p.conn.Write(in)
		if c, ok := p.conn.(interface{ CloseWrite() error }); ok {
			_ = c.CloseWrite()
		}
	}()
	for {
		r, err := p.reply()
		if err != nil && strings.HasPrefix(err.Error(), "reply line") || isTimeout(err) {
			t.Fatalf("%q: %v: %q", in, err, r)
		}
		if err != nil {
			return
		}
		if r[0] < '2' || r[0] > '5' || slices.Contains(never, r[:3]) {
			t.Fatalf("%q: reply %q", in, r)
		}
	}
}

// BenchmarkLibraryDATA is what go-smtp's own reader does with a message of 200 KB, by DATA (octet by
// octet) and BDAT, without TLS; BenchmarkDotReader is ours.
func BenchmarkLibraryDATA(b *testing.B) {
	msg := bytes.Repeat([]byte(strings.Repeat("x", 76)+"\r\n"), 200_000/78)
	for name, cmd := range map[string]string{"DATA": "DATA", "BDAT": "BDAT"} {
		b.Run(name, func(b *testing.B) {
			srv := smtp.NewServer(smtp.BackendFunc(func(*smtp.Conn) (smtp.Session, error) { return sink{}, nil }))
			l := must(net.Listen("tcp", "127.0.0.1:0"))(b)
			go func() { _ = srv.Serve(l) }()
			defer srv.Close()
			c := must(net.Dial("tcp", l.Addr().String()))(b)
			defer c.Close()
			_ = c.SetDeadline(time.Now().Add(time.Minute))
			p := &peer{b, c, bufio.NewReader(c)}
			p.expect("220")
			p.cmd("EHLO x", "250")
			b.SetBytes(int64(len(msg)))
			for b.Loop() {
				p.send("MAIL FROM:<a@b>\r\nRCPT TO:<a@b>\r\n")
				p.expect("250")
				p.expect("250")
				if cmd == "DATA" {
					p.cmd("DATA", "354")
					p.send(string(msg) + ".\r\n")
				} else {
					p.send("BDAT 199992 LAST\r\n" + string(msg))
				}
				p.expect("250")
			}
		})
	}
}

type sink struct{}

func (sink) Reset()                               {}
func (sink) Logout() error                        { return nil }
func (sink) Mail(string, *smtp.MailOptions) error { return nil }
func (sink) Rcpt(string, *smtp.RcptOptions) error { return nil }
func (sink) Data(r io.Reader) error               { _, err := io.Copy(io.Discard, r); return err }
