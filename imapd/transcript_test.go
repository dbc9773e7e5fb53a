package imapd

import (
	"crypto/tls"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"mssd/store"
)

// TestTranscripts plays testdata/imap/*.txt. "C:" is sent, "S:" must come next and match; in an S line <...> stands
// for a regular expression and the rest for itself. "S*:" lines may come in any order among themselves. "!deliver BOX
// NAME" delivers a message of messages or NAME.eml, "!mail BOX FIELD | FIELD" one with these fields, "!ok" is a command that must succeed, whatever else it answers, "!other" the same of a second session, "!tls" makes the handshake, "!pack" begins to compress, "!clear" at the top asks for the STARTTLS front.
// "~ why" and "~~ why" stand before a command that Dovecot answers otherwise, or does not get; "!alone why" keeps the whole
// from Dovecot (TestTranscriptsAgainstDovecot). "!person" logs in, with a token, as somebody who holds a BAL of their own
// ("!own BOX NAME" delivers to it), is writer of that of the tests, and reader of a third (newPersons).
// A C line that ends in "{n}" or "{n+}" is followed by its literal on the next C line, as it stands.
func TestTranscripts(t *testing.T) {
	files, err := filepath.Glob("../testdata/imap/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no transcripts: %v", err)
	}
	for _, f := range files {
		t.Run(strings.TrimSuffix(filepath.Base(f), ".txt"), func(t *testing.T) {
			b, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			playTranscript(t, string(b), false)
		})
	}
}

var messages = map[string]string{"mail": mail, "multipart": multipart}

func rawMessage(t *testing.T, name string) string {
	if raw, ok := messages[name]; ok {
		return raw
	}
	b, err := os.ReadFile("../testdata/imap/" + name + ".eml")
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// playTranscript plays one, compressed from the login on where packed says so.
func playTranscript(t *testing.T, script string, packed bool) {
	clear := strings.Contains(script, "!clear")
	var w *world
	asPerson := ""
	if strings.Contains(script, "!person") {
		p := newPersons(t)
		w, asPerson = p.world, p.authenticate("")
	} else {
		w = newWorld(t, func(s *Server) { s.Implicit = !clear })
	}
	s := w.dial()
	var other *session
	var anyOrder []string
	open := func() { // after a login
		if packed {
			packed = false
			s.ok("COMPRESS DEFLATE")
			s.pack()
		}
	}
	for i, line := range strings.Split(script, "\n") {
		verb, rest, _ := strings.Cut(line, " ")
		if verb != "S*:" && len(anyOrder) > 0 {
			expectAll(s, i, anyOrder)
			anyOrder = nil
		}
		switch verb {
		case "C:":
			s.send(strings.ReplaceAll(rest, `\r\n`, "\r\n") + "\r\n")
		case "S:":
			if got := s.line(); !pattern(rest).MatchString(got) {
				s.fail("line %d: got  %q\nwant %q", i+1, got, rest)
			}
			if strings.HasSuffix(rest, " Logged in") {
				open()
			}
		case "S*:":
			anyOrder = append(anyOrder, rest)
		case "!deliver":
			box, name, _ := strings.Cut(rest, " ")
			w.deliver(box, rawMessage(t, name))
		case "!other":
			if other == nil {
				other = w.login(ownerName, "")
			}
			other.ok(rest)
		case "!mail":
			w.deliver(composed(rest))
		case "!ok":
			s.ok(strings.ReplaceAll(rest, `\r\n`, "\r\n"))
			if strings.HasPrefix(rest, "LOGIN ") {
				open()
			}
		case "!person":
			s.ok(asPerson)
			open()
		case "!own":
			box, name, _ := strings.Cut(rest, " ")
			must[store.UID](t, "deliver")(w.deliverTo(must[store.BAL](t, "bal")(w.store.BAL(ownBAL)), prefix, box, rawMessage(t, name)))
		case "!pack":
			s.pack()
		case "!tls":
			s.nc = tls.Client(s.nc, w.client)
			s = newSession(t, s.nc)
		case "!end":
			if got := s.line(); got != "" {
				s.fail("line %d: the connection goes on: %q", i+1, got)
			}
		case "!clear", "", "#", "~", "~~", "!alone":
		default:
			t.Fatalf("line %d: %q is no line of a transcript", i+1, line)
		}
	}
}

// composed is the mailbox and the message of a line "!mail".
func composed(rest string) (box, raw string) {
	box, head, _ := strings.Cut(rest, " ")
	return box, strings.NewReplacer(" | ", "\r\n", `\r\n`, "\r\n").Replace(head) + "\r\n\r\ntexte\r\n"
}

func expectAll(s *session, at int, want []string) {
	s.t.Helper()
	left := want
	for range want {
		got := s.line()
		found := -1
		for i, p := range left {
			if pattern(p).MatchString(got) {
				found = i
				break
			}
		}
		if found < 0 {
			s.fail("before line %d: got %q, want one of %q", at+1, got, left)
		}
		left = append(append([]string{}, left[:found]...), left[found+1:]...)
	}
}

var hole = regexp.MustCompile(`<<(.*?)>>`)

// pattern makes a regular expression of a line: <<re>> stands for re, \r\n for a line end within a literal.
func pattern(line string) *regexp.Regexp {
	line = strings.ReplaceAll(line, `\r\n`, "\r\n")
	var b strings.Builder
	b.WriteString(`(?s)\A`)
	at := 0
	for _, m := range hole.FindAllStringSubmatchIndex(line, -1) {
		b.WriteString(regexp.QuoteMeta(line[at:m[0]]))
		b.WriteString("(?:" + line[m[2]:m[3]] + ")")
		at = m[1]
	}
	b.WriteString(regexp.QuoteMeta(line[at:]) + `\z`)
	return regexp.MustCompile(b.String())
}
