package wire

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
)

// conversation reads commands until the stream or a fatal error ends it, and says what happened.
func conversation(in string, lim Limits) (out []string) {
	br := bufio.NewReaderSize(strings.NewReader(in), 64)
	more := func() error { out = append(out, "+"); return nil }
	for {
		c, err := ReadCommand(br, lim, more)
		var syn *SyntaxError
		switch {
		case errors.As(err, &syn):
			s := "BAD " + c.Tag
			if syn.TooBig {
				s = "TOOBIG " + c.Tag
			}
			out = append(out, s)
			continue
		case errors.Is(err, ErrFatal):
			return append(out, "CLOSE")
		case err != nil:
			return append(out, err.Error())
		}
		s := fmt.Sprintf("%s|%s|%q", c.Tag, c.Name, c.Args)
		if c.Literal != nil {
			if err := c.Literal.Accept(); err != nil {
				return append(out, err.Error())
			}
			msg, err := io.ReadAll(c.Literal)
			if err != nil {
				return append(out, err.Error())
			}
			s += fmt.Sprintf("|%q", msg)
			if err := c.Literal.Close(); errors.As(err, &syn) {
				s = "BAD " + c.Tag
			} else if err != nil {
				return append(out, "CLOSE")
			}
		}
		out = append(out, s)
	}
}

func TestReadCommand(t *testing.T) {
	small := Limits{Line: 100, Literal: 10, NonSync: 10, Total: 120}
	for _, tc := range []struct {
		name, in string
		lim      Limits
		want     []string
	}{
		{"plain", "a1 NOOP\r\na2 select INBOX\r\n", Limits{}, []string{`a1|NOOP|""`, `a2|SELECT|"INBOX"`, "EOF"}},
		{"uid", "a uid fetch 1 FLAGS\r\n", Limits{}, []string{`a|UID FETCH|"1 FLAGS"`, "EOF"}},
		{"uid alone", "a UID\r\nb NOOP\r\n", Limits{}, []string{"BAD a", `b|NOOP|""`, "EOF"}},
		{"literal", "A001 LOGIN {11}\r\nFRED FOOBAR {7}\r\nfat man\r\n", Limits{},
			[]string{"+", "+", `A001|LOGIN|"{11}\r\nFRED FOOBAR {7}\r\nfat man"`, "EOF"}},
		{"non-synchronizing", "A001 LOGIN {11+}\r\nFRED FOOBAR {7+}\r\nfat man\r\n", Limits{},
			[]string{`A001|LOGIN|"{11+}\r\nFRED FOOBAR {7+}\r\nfat man"`, "EOF"}},
		{"literal holds a command", "a LOGIN {12}\r\nx DELETE y\r\n z\r\n", Limits{},
			[]string{"+", `a|LOGIN|"{12}\r\nx DELETE y\r\n z"`, "EOF"}},
		{"empty literal", "a LOGIN {0}\r\n x\r\n", Limits{}, []string{"+", `a|LOGIN|"{0}\r\n x"`, "EOF"}},
		{"password ends in a brace", "a LOGIN x y}\r\nb LOGIN x y+}\r\n", Limits{}, []string{`a|LOGIN|"x y}"`, `b|LOGIN|"x y+}"`, "EOF"}},
		{"brace in quotes", "a LOGIN x \"{3}\"\r\n", Limits{}, []string{`a|LOGIN|"x \"{3}\""`, "EOF"}},
		{"empty line", "\r\na NOOP\r\n", Limits{}, []string{"BAD ", `a|NOOP|""`, "EOF"}},
		{"tag with plus", "+ NOOP\r\na NOOP\r\n", Limits{}, []string{"BAD ", `a|NOOP|""`, "EOF"}},
		{"tag alone", "a\r\nb NOOP\r\n", Limits{}, []string{"BAD a", `b|NOOP|""`, "EOF"}},
		{"NUL in text", "a LOGIN x\x00 y\r\nb NOOP\r\n", Limits{}, []string{"BAD a", `b|NOOP|""`, "EOF"}},
		{"NUL in literal", "a LOGIN {3+}\r\nx\x00y z\r\nb NOOP\r\n", Limits{}, []string{"BAD a", `b|NOOP|""`, "EOF"}},
		{"bare CR", "a LOGIN x\ry z\r\nb NOOP\r\n", Limits{}, []string{"BAD a", `b|NOOP|""`, "EOF"}},
		{"bare LF", "a NOOP\nb DELETE x\r\n", Limits{}, []string{"CLOSE"}},
		{"quote open", "a LOGIN \"x\r\nb NOOP\r\n", Limits{}, []string{"BAD a", `b|NOOP|""`, "EOF"}},
		{"quote open, literal after", "a LOGIN \"x {20+}\r\nb DELETE x\r\n", Limits{}, []string{"CLOSE"}},
		{"quote open, waits", "a LOGIN \"x {20}\r\nb NOOP\r\n", Limits{}, []string{"BAD a", `b|NOOP|""`, "EOF"}},
		{"number too large, waits", "a LOGIN {99999999999999999999}\r\nb NOOP\r\n", Limits{}, []string{"BAD a", `b|NOOP|""`, "EOF"}},
		{"number too large, sent", "a LOGIN {99999999999999999999+}\r\nb NOOP\r\n", Limits{}, []string{"CLOSE"}},
		{"negative, sent", "a LOGIN {-1+}\r\nb NOOP\r\n", Limits{}, []string{"CLOSE"}},
		{"refused literal swallowed", "+ LOGIN {12+}\r\nb DELETE x\r\n y\r\nc NOOP\r\n", Limits{}, []string{"BAD ", `c|NOOP|""`, "EOF"}},
		{"4096 sent", "a LOGIN {4096+}\r\n" + strings.Repeat("x", 4096) + " y\r\n", Limits{},
			[]string{`a|LOGIN|"{4096+}\r\n` + strings.Repeat("x", 4096) + ` y"`, "EOF"}},
		{"4097 sent", "a LOGIN {4097+}\r\n" + strings.Repeat("b NOOP\r\n", 600), Limits{}, []string{"CLOSE"}},
		{"too big, waits", "a LOGIN {11}\r\nb NOOP\r\n", small, []string{"TOOBIG a", `b|NOOP|""`, "EOF"}},
		{"line too long", "a LOGIN " + strings.Repeat("x", 100) + "\r\nb NOOP\r\n", small, []string{"CLOSE"}},
		{"total", "a X " + strings.Repeat("{10+}\r\n0123456789 ", 10) + "\r\nb NOOP\r\n", small, []string{"CLOSE"}},
		{"literal8 elsewhere", "a LOGIN ~{3+}\r\nabc x\r\nb NOOP\r\n", Limits{}, []string{"BAD a", `b|NOOP|""`, "EOF"}},
		{"literal8, a value", "a SETMETADATA x (/private/a ~{3+}\r\na\x00b)\r\nb NOOP\r\n", Limits{},
			[]string{`a|SETMETADATA|"x (/private/a ~{3+}\r\na\x00b)"`, `b|NOOP|""`, "EOF"}},
		{"NUL in a value", "a SETMETADATA x (/private/a {3+}\r\na\x00b)\r\nb NOOP\r\n", Limits{}, []string{"BAD a", `b|NOOP|""`, "EOF"}},
		{"cut off", "a NOOP", Limits{}, []string{"unexpected EOF"}},
		{"cut off in literal", "a LOGIN {5+}\r\nab", Limits{}, []string{"unexpected EOF"}},

		{"append", "A003 APPEND saved-messages (\\Seen) {6}\r\nab\r\ncd\r\nb NOOP\r\n", Limits{},
			[]string{"+", `A003|APPEND|"saved-messages (\\Seen) "|"ab\r\ncd"`, `b|NOOP|""`, "EOF"}},
		{"append, mailbox is a literal", "a APPEND {5+}\r\nINBOX {2}\r\nhi\r\n", Limits{},
			[]string{"+", `a|APPEND|"{5+}\r\nINBOX "|"hi"`, "EOF"}},
		{"append, literal8", "a APPEND INBOX ~{2}\r\n\x00x\r\n", Limits{}, []string{"+", `a|APPEND|"INBOX "|"\x00x"`, "EOF"}},
		{"append, bad date", "a APPEND INBOX \"x\" {20+}\r\nb DELETE precious\r\n0\r\nc NOOP\r\n", Limits{}, []string{"BAD a", `c|NOOP|""`, "EOF"}},
		{"append, bad date, waits", "a APPEND INBOX \"x\" {20}\r\nc NOOP\r\n", Limits{}, []string{"BAD a", `c|NOOP|""`, "EOF"}},
		{"append, too large sent", "a APPEND INBOX {4097+}\r\nb NOOP\r\n", Limits{}, []string{"CLOSE"}},
		{"append, two messages", "a APPEND INBOX {2+}\r\nhi {19+}\r\nb DELETE precious\r\n\r\nc NOOP\r\n", Limits{}, []string{"BAD a", `c|NOOP|""`, "EOF"}},
		{"append, UTF8", "a APPEND INBOX UTF8 (~{2}\r\nhi)\r\nb REPLACE 1 INBOX utf8 (~{2+}\r\nhi)\r\nc NOOP\r\n", Limits{},
			[]string{"+", `a|APPEND|"INBOX UTF8 ("|"hi"`, `b|REPLACE|"1 INBOX utf8 ("|"hi"`, `c|NOOP|""`, "EOF"}},
		{"append, UTF8 not closed", "a APPEND INBOX UTF8 (~{2+}\r\nhi\r\nc NOOP\r\n", Limits{}, []string{"BAD a", `c|NOOP|""`, "EOF"}},
		{"append, UTF8 goes on", "a APPEND INBOX UTF8 (~{2+}\r\nhi) {19+}\r\nb DELETE precious\r\n\r\nc NOOP\r\n", Limits{},
			[]string{"BAD a", `c|NOOP|""`, "EOF"}},
		{"append, UTF8 without literal8", "a APPEND INBOX UTF8 ({19+}\r\nb DELETE precious\r\n)\r\nc NOOP\r\n", Limits{}, []string{"BAD a", `c|NOOP|""`, "EOF"}},
		{"append, UTF8 without literal8, waits", "a APPEND INBOX UTF8 ({19}\r\nc NOOP\r\n", Limits{}, []string{"BAD a", `c|NOOP|""`, "EOF"}},
		{"append, closed without UTF8", "a APPEND INBOX (~{2+}\r\nhi)\r\nc NOOP\r\n", Limits{}, []string{"BAD a", `c|NOOP|""`, "EOF"}},
		{"append without message", "a APPEND INBOX\r\n", Limits{}, []string{`a|APPEND|"INBOX"`, "EOF"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := conversation(tc.in, tc.lim)
			if fmt.Sprint(got) != fmt.Sprint(tc.want) {
				t.Errorf("in   %q\ngot  %q\nwant %q", tc.in, got, tc.want)
			}
		})
	}
}

// A refused APPEND leaves the stream at the next command, whether its message was on its way or not.
func TestLiteralClose(t *testing.T) {
	for _, in := range []string{
		"a APPEND INBOX {20+}\r\nb DELETE precious\r\n0\r\nc NOOP\r\n",
		"a APPEND INBOX {20}\r\nc NOOP\r\n",
	} {
		br := bufio.NewReader(strings.NewReader(in))
		more := func() error { t.Error("asked for a message that was refused"); return nil }
		c, err := ReadCommand(br, Limits{}, more)
		if err != nil || c.Literal == nil || c.Literal.Size != 20 {
			t.Fatalf("%q: %+v, %v", in, c, err)
		}
		if a, err := ParseAppend(c); err != nil || a.Mailbox != "INBOX" {
			t.Errorf("%q: %+v, %v", in, a, err)
		}
		if err := c.Literal.Close(); err != nil {
			t.Errorf("%q: Close: %v", in, err)
		}
		if c, err = ReadCommand(br, Limits{}, more); err != nil || c.Tag != "c" {
			t.Errorf("%q: then %+v, %v", in, c, err)
		}
	}
}

func TestReadLine(t *testing.T) {
	br := bufio.NewReader(strings.NewReader("DONE\r\n\r\n" + strings.Repeat("x", 50) + "\r\n"))
	for _, want := range []string{"DONE", ""} {
		if got, err := ReadLine(br, 20); err != nil || string(got) != want {
			t.Errorf("got %q, %v, want %q", got, err, want)
		}
	}
	if _, err := ReadLine(br, 20); !errors.Is(err, ErrTooLong) || !errors.Is(err, ErrFatal) {
		t.Errorf("long line: %v", err)
	}
	if _, err := ReadLine(bufio.NewReader(strings.NewReader("DONE\n")), 20); !errors.Is(err, ErrFatal) {
		t.Errorf("bare LF: %v", err)
	}
}

// A claimed size costs no memory before the octets come.
func TestLiteralClaim(t *testing.T) {
	lim := Limits{Literal: 1 << 40, Total: 1 << 40}
	n := testing.AllocsPerRun(1, func() {
		_, err := ReadCommand(bufio.NewReader(strings.NewReader("a LOGIN {1000000000000}\r\nx")), lim, func() error { return nil })
		if err != io.ErrUnexpectedEOF {
			t.Errorf("got %v", err)
		}
	})
	if n > 50 {
		t.Errorf("%v allocations", n)
	}
}

func FuzzReadCommand(f *testing.F) {
	for _, s := range []string{"a NOOP", "a LOGIN {3+}\r\nabc x", "a APPEND INBOX (\\Seen) {3}\r\nabc", "a X \"{3+}", "a\nb", "a APPEND {1}\r\nx {2+}\r\nhi {3+}",
		"a APPEND x {2+}\r\nhi (\\Seen) {3+}\r\nabc ~{1}\r\nx {0+}\r\n", "a APPEND x {2+}\r\nhi(a) {3+}\r\nabc", "a APPEND x {2+}\r\nhi {3"} {
		f.Add(s)
	}
	lim := Limits{Line: 1000, Literal: 500, NonSync: 300, Total: 1500}
	f.Fuzz(func(t *testing.T, in string) {
		const mark = "zz9 NOOP\r\n"
		src := strings.NewReader(in + mark)
		br := bufio.NewReaderSize(src, 32)
		for {
			c, err := ReadCommand(br, lim, func() error { return nil })
			var syn *SyntaxError
			if err != nil && !errors.As(err, &syn) {
				return
			}
			// Whatever was refused, it was consumed to a CRLF: the octets before are the end of a line.
			used := len(in) + len(mark) - src.Len() - br.Buffered()
			if c.Literal == nil && !strings.HasSuffix((in + mark)[:used], "\r\n") {
				t.Fatalf("stopped within a line, after %q", (in + mark)[:used])
			}
			if len(c.Args) > lim.Total {
				t.Fatalf("%d octets kept", len(c.Args))
			}
			for lit := c.Literal; lit != nil; {
				if lit.Size%3 == 0 { // one that is refused
					if err := lit.Close(); err != nil && !errors.As(err, &syn) {
						return
					}
					break
				}
				if lit.Accept() != nil {
					return
				}
				if _, err := io.Copy(io.Discard, lit); err != nil {
					return
				}
				var err error
				if lit, _, err = lit.Next(); err != nil && !errors.As(err, &syn) {
					return
				}
			}
			parseAny(c)
		}
	})
}

// After each recoverable error the next command is read as itself.
func FuzzRecovery(f *testing.F) {
	f.Add("a LOGIN \"x {3}")
	f.Fuzz(func(t *testing.T, line string) {
		if strings.ContainsAny(line, "\n") {
			return
		}
		br := bufio.NewReader(strings.NewReader(line + "\r\nzz9 NOOP\r\n"))
		_, err := ReadCommand(br, Limits{}, nil)
		var syn *SyntaxError
		if !errors.As(err, &syn) {
			return
		}
		if strings.HasSuffix(line, "+}") {
			return // its literal has swallowed the next command, rightly
		}
		if c, err := ReadCommand(br, Limits{}, nil); err != nil || c.Tag != "zz9" || c.Name != "NOOP" {
			t.Fatalf("after %q: %+v, %v", line, c, err)
		}
	})
}

func parseAny(c *Command) {
	ParseNone(c)
	ParseLogin(c)
	ParseAuthenticate(c)
	ParseCompress(c)
	ParseGetMetadata(c)
	ParseSetMetadata(c)
	ParseMailbox(c)
	ParseTwoMailboxes(c)
	ParseSelect(c)
	ParseList(c)
	ParseStatus(c)
	ParseNotify(c)
	ParseAppend(c)
	ParseFetch(c)
	ParseStore(c)
	ParseCopy(c)
	ParseSearch(c)
	ParseSort(c)
	ParseThread(c)
	ParseCreate(c)
	ParseRights(c)
	ParseQuotaRoot(c)
	ParseUIDSet(c)
	ParseID(c)
	ParseEnable(c)
}

func BenchmarkReadCommand(b *testing.B) {
	const line = "A0001 UID FETCH 1:* (UID FLAGS RFC822.SIZE BODY.PEEK[HEADER.FIELDS (FROM TO SUBJECT DATE)])\r\n"
	src := strings.NewReader("")
	br := bufio.NewReader(src)
	b.SetBytes(int64(len(line)))
	b.ReportAllocs()
	for b.Loop() {
		src.Reset(line)
		br.Reset(src)
		if _, err := ReadCommand(br, Limits{}, nil); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkParseFetch(b *testing.B) {
	c := &Command{Name: "UID FETCH", UID: true, Args: []byte("1:* (UID FLAGS RFC822.SIZE BODY.PEEK[HEADER.FIELDS (FROM TO SUBJECT DATE)])")}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ParseFetch(c); err != nil {
			b.Fatal(err)
		}
	}
}
