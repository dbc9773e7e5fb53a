package imapd

import (
	"crypto/tls"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"mssd/auth/psctest"
)

// FuzzSession sends any octets in each state: no panic, every line that comes back ends in CRLF, and the next NOOP is
// answered or the connection is closed.
func FuzzSession(f *testing.F) {
	files, _ := filepath.Glob("../testdata/imap/*.txt")
	for _, name := range files {
		b, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		for l := range strings.SplitSeq(string(b), "\n") {
			if text, ok := strings.CutPrefix(l, "C: "); ok {
				for st := range uint8(6) {
					f.Add(st, text+"\r\n")
				}
			}
		}
	}
	f.Add(uint8(3), "a IDLE\r\nDONE\r\n")
	f.Add(uint8(2), "a APPEND INBOX {4}\r\nabcd\r\n")
	f.Add(uint8(2), "a APPEND INBOX (\\Seen) {4+}\r\nabcd (x) \" 7-Feb-1994 22:43:04 -0800\" {3+}\r\nefg {0+}\r\n\r\n")
	f.Add(uint8(2), "a APPEND INBOX {4+}\r\nabcd (\\Nothing) {3+}\r\nefg {2}\r\n")
	f.Add(uint8(2), "a ENABLE UTF8=ACCEPT\r\nb APPEND INBOX UTF8 (~{4+}\r\nabcd) (x) UTF8 (~{3+}\r\nefg)\r\n")
	f.Add(uint8(3), "a ENABLE UTF8=ACCEPT\r\nb REPLACE 1 INBOX UTF8 (~{4}\r\nabcd)\r\nc SEARCH CHARSET UTF-8 ALL\r\n")
	f.Add(uint8(1), "a ENABLE UTF8=ACCEPT\r\nb CREATE \"\xe9\"\r\nc LIST \"\" \"\xc3\xa9*\"\r\n")
	f.Add(uint8(3), "a UID FETCH 1:* (BODY[1.2.HEADER.FIELDS (a b)]<1.2>)\r\n")
	p := newPersons(f, func(s *Server) { s.MaxConnsPerAddr, s.IdleTime, s.LoginTime = 1000, 2*time.Second, 10*time.Second })
	w, asPerson := p.world, "AUTHENTICATE XOAUTH2 "+xoauth2("", p.provider.Token(psctest.Claims{NameID: hugoID, Username: hugoID, Expires: time.Now().Add(23 * time.Hour)}))
	w.deliver("INBOX", mail)
	w.deliver("INBOX", multipart)
	f.Fuzz(func(t *testing.T, st uint8, input string) {
		if len(input) > 4096 || strings.Contains(strings.ToUpper(input), "STARTTLS") {
			return
		}
		nc, err := tls.Dial("tcp", w.addr, w.client)
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		s := newSession(t, nc)
		s.line()
		switch st % 6 {
		case 0:
		case 4, 5:
			s.ok(asPerson)
		default:
			s.ok(`LOGIN "` + ownerName + `" "` + password + `"`)
		}
		switch st % 6 {
		case 5:
			s.ok(`SELECT "` + inWritten + `INBOX"`)
		case 2:
			s.ok("EXAMINE INBOX")
		case 3:
			s.ok("SELECT INBOX")
		}
		// DONE ends an IDLE; after all of it a literal that was announced and not sent may wait for octets, which
		// the end of the stream cuts off.
		if _, err := io.WriteString(nc, input+"\r\nDONE\r\nzz NOOP\r\n"); err != nil {
			return
		}
		_ = nc.CloseWrite()
		rest, _ := io.ReadAll(nc)
		if head, packed, ok := strings.Cut(string(rest), " OK DEFLATE active\r\n"); ok {
			// What follows is taken for packed, and is answered so.
			plain, _ := io.ReadAll(newInflater(strings.NewReader(packed)))
			rest = append([]byte(head+"\r\n"), plain...)
		}
		if len(rest) > 0 && !strings.HasSuffix(string(rest), "\r\n") {
			t.Fatalf("the last line is not ended: %q", rest)
		}
	})
}
