package message

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// dovecotIMAP speaks IMAP on its standard input and output, logged in already.
const dovecotIMAP = "/usr/lib/dovecot/imap"

// needDovecot wants Dovecot 2.3, whose answers the list of known differences is made from.
func needDovecot(t *testing.T) {
	t.Helper()
	if _, err := os.Stat(dovecotIMAP); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal(dovecotIMAP + " is missing (Debian: dovecot-imapd); `make test` installs it")
		}
		t.Skip(dovecotIMAP + " is missing (Debian: dovecot-imapd); `make test` installs it")
	}
	out, err := exec.Command("/usr/sbin/dovecot", "--version").Output()
	if err != nil {
		t.Fatalf("dovecot --version: %v", err)
	}
	if v := string(bytes.TrimSpace(out)); !strings.HasPrefix(v, "2.3.") {
		t.Skipf("this is Dovecot %s; the known differences are those of 2.3", v)
	}
}

// TestDovecot compares what the scanner says about the corpus with what Dovecot says. NIL and "", quoted string
// and literal, and the case of names that have none are no differences. The known ones stand in
// testdata/README.md and in knownDifferences: any other fails, and so does one that is gone.
func TestDovecot(t *testing.T) {
	needDovecot(t)
	c := corpus(t)
	names := make([]string, 0, len(c))
	for name := range c {
		names = append(names, name)
	}
	slices.Sort(names)
	var script strings.Builder
	script.WriteString("a SELECT INBOX\r\n")
	dir, err := os.MkdirTemp("", "dovecot") // t.TempDir is closed to the user that Dovecot runs as when we are root
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	for i, name := range names {
		m, _ := scan(t, c[name])
		putMaildir(t, dir, i+1, c[name])
		fmt.Fprintf(&script, "a FETCH %d (ENVELOPE BODY BODYSTRUCTURE RFC822.SIZE", i+1)
		for _, s := range sections(m, c[name]) {
			fmt.Fprintf(&script, " BODY.PEEK[%s]", s.name)
		}
		script.WriteString(")\r\n")
	}
	script.WriteString("a LOGOUT\r\n")
	answers := readFetches(t, runDovecot(t, dir, script.String()))
	if len(answers) != len(names) {
		t.Fatalf("%d answers for %d messages", len(answers), len(names))
	}
	seen := make(map[string]bool)
	for i, name := range names {
		base := filepath.Base(name)
		m, _ := scan(t, c[name])
		ours := ourAnswer(t, m, c[name])
		for _, item := range sortedKeys(ours) {
			key := base + " " + item
			d := difference(answers[i][item], ours[item])
			if len(d) == 0 {
				continue
			}
			if whole := base + " *"; knownDifferences[whole] != "" {
				key = whole
			}
			seen[key] = true
			if knownDifferences[key] == "" {
				t.Errorf("%s:\n  %s", key, strings.Join(d, "\n  "))
			}
		}
	}
	for key := range knownDifferences {
		if !seen[key] {
			t.Errorf("%s: no difference any more, take it out of the list", key)
		}
	}
}

// knownDifferences gives the reason of each difference that stays: "file item".
var knownDifferences = map[string]string{
	"bad-content-type BODY":                         "RFC 2045, Section 5.2: text/plain; Dovecot shows an empty subtype",
	"bad-content-type BODYSTRUCTURE":                "as BODY",
	"bare-lf *":                                     "Dovecot turns LF into CRLF when it reads; we show what is stored",
	"empty BODY[HEADER.FIELDS (SUBJECT TO X-NONE)]": noEmptyLine,
	"header-ends-in-delimiter BODY[1.MIME]":         headerLineEnd,
	"header-ends-in-delimiter BODY[2.1.MIME]":       headerLineEnd,
	"header-ends-in-delimiter BODY[2.HEADER]":       headerLineEnd,
	"nested-rfc822 BODY":                            beforeDelimiter,
	"nested-rfc822 BODYSTRUCTURE":                   beforeDelimiter,
	"nested-rfc822 BODY[1]":                         beforeDelimiter,
	"nested-rfc822 BODY[1.TEXT]":                    beforeDelimiter,
	"prefix-boundaries BODY[1]":                     beforeDelimiter,
	"newline-subject ENVELOPE":                      "RFC 5322, Section 2.2.3: unfolding takes the CRLF out, the tab stays",
	"repeated ENVELOPE":                             "two Subject fields, forbidden by RFC 5322, Section 3.6: we take the first, Dovecot the last",
	"rfc2049-complex BODY":                          "case of type names only",
	"rfc2049-complex BODYSTRUCTURE":                 "case of type names only",
	"unquoted-name BODY":                            unquoted,
	"unquoted-name BODYSTRUCTURE":                   unquoted,
}

const (
	noEmptyLine     = "RFC 9051, Section 6.4.5.1: no empty line where the message has none"
	headerLineEnd   = "RFC 5322, Section 2.2: a field ends in CRLF; Dovecot gives that line end to the delimiter behind it"
	beforeDelimiter = "RFC 2046, Section 5.1.1: the line end before a delimiter belongs to it, also behind an inner closing delimiter"
	unquoted        = "RFC 2045, Section 5.1 wants these values quoted; we read the whole of them and note a fault"
)

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

type section struct {
	name   string
	octets []byte
}

// sections are all that a client could ask of the message b, by the offsets of m.
func sections(m *Meta, b []byte) []section {
	head := b[:m.HeaderLen]
	out := []section{{"", b}, {"HEADER", head}, {"TEXT", b[m.HeaderLen:]},
		{"HEADER.FIELDS (SUBJECT TO X-NONE)", SelectFields(head, []string{"Subject", "to", "X-NONE"}, false)},
		{"HEADER.FIELDS.NOT (SUBJECT)", SelectFields(head, []string{"subject"}, true)}}
	var walk func(path []int)
	walk = func(path []int) {
		for n := 1; ; n++ {
			next := append(slices.Clone(path), n)
			p, ok := m.Part(next)
			if !ok {
				return
			}
			num := strings.Trim(strings.ReplaceAll(fmt.Sprint(next), " ", "."), "[]")
			out = append(out, section{num, b[p.Offset:p.End()]}, section{num + ".MIME", b[p.Header : p.Header+p.HeaderLen]})
			if e := p.Embedded; e != nil {
				head := b[e.Header : e.Header+e.HeaderLen]
				out = append(out, section{num + ".HEADER", head}, section{num + ".TEXT", b[e.Offset:e.End()]},
					section{num + ".HEADER.FIELDS (FROM)", SelectFields(head, []string{"FROM"}, false)})
			}
			walk(next)
		}
	}
	walk(nil)
	return out
}

func ourAnswer(t *testing.T, m *Meta, b []byte) map[string]any {
	out := map[string]any{"RFC822.SIZE": strconv.FormatInt(m.Size, 10)}
	for name, w := range map[string][]byte{"ENVELOPE": m.Envelope, "BODY": m.Body, "BODYSTRUCTURE": m.BodyStructure} {
		r := wireReader{b: w}
		out[name] = r.value()
		if r.err != nil || len(r.b) > 0 {
			t.Fatalf("%s: %v, rest %q", name, r.err, r.b)
		}
	}
	for _, s := range sections(m, b) {
		out["BODY["+s.name+"]"] = string(s.octets)
	}
	return out
}

// difference says where two answers differ.
func difference(dovecot, ours any) []string {
	d, dList := dovecot.([]any)
	o, oList := ours.([]any)
	if !dList || !oList {
		ds, os := fmt.Sprint(dovecot), fmt.Sprint(ours)
		if dList != oList || ds != os {
			return []string{fmt.Sprintf("dovecot %q, ours %q", dovecot, ours)}
		}
		return nil
	}
	var out []string
	for i := range max(len(d), len(o)) {
		var dv, ov any = "nothing", "nothing"
		if i < len(d) {
			dv = d[i]
		}
		if i < len(o) {
			ov = o[i]
		}
		for _, s := range difference(dv, ov) {
			out = append(out, fmt.Sprintf("%d/%s", i+1, s))
		}
	}
	return out
}

// wireReader reads the values of IMAP answers; NIL and the empty list read as "".
type wireReader struct {
	b   []byte
	err error
}

var errWire = errors.New("not in wire form")

func (r *wireReader) value() any {
	if len(r.b) == 0 || r.err != nil {
		r.err = errWire
		return ""
	}
	switch r.b[0] {
	case '(':
		return r.list()
	case '"':
		return r.quotedString()
	case '{':
		i := bytes.IndexByte(r.b, '\n')
		n, err := strconv.Atoi(strings.TrimRight(string(r.b[1:max(i, 1)]), "}\r"))
		if err != nil || i+1+n > len(r.b) {
			r.err = errWire
			return ""
		}
		s := string(r.b[i+1 : i+1+n])
		r.b = r.b[i+1+n:]
		return s
	}
	return r.atom()
}

func (r *wireReader) list() any {
	var out []any
	for r.b = r.b[1:]; r.err == nil; {
		switch {
		case len(r.b) == 0:
			r.err = errWire
		case r.b[0] == ' ':
			r.b = r.b[1:]
		case r.b[0] == ')':
			r.b = r.b[1:]
			if out == nil {
				return ""
			}
			return out
		default:
			out = append(out, r.value())
		}
	}
	return ""
}

func (r *wireReader) quotedString() string {
	var s []byte
	for i := 1; i < len(r.b); i++ {
		switch r.b[i] {
		case '"':
			r.b = r.b[i+1:]
			return string(s)
		case '\\':
			i++
		}
		s = append(s, r.b[min(i, len(r.b)-1)])
	}
	r.err = errWire
	return ""
}

// atom reads NIL, a number, or the name of an item with its section in brackets.
func (r *wireReader) atom() string {
	depth, i := 0, 0
	for ; i < len(r.b); i++ {
		c := r.b[i]
		if c == '[' {
			depth++
		} else if c == ']' {
			depth--
		}
		if depth == 0 && (c == ' ' || c == '(' || c == ')' || c == '\r') {
			break
		}
	}
	s := string(r.b[:i])
	if r.b = r.b[i:]; s == "NIL" {
		return ""
	}
	return s
}

// readFetches reads the untagged FETCH answers, in the order of sequence numbers.
func readFetches(t *testing.T, b []byte) []map[string]any {
	var out []map[string]any
	for len(b) > 0 {
		line, rest, _ := bytes.Cut(b, []byte("\n"))
		var n int
		if k, _ := fmt.Sscanf(string(line[:min(len(line), 40)]), "* %d FETCH (", &n); k == 0 || !bytes.Contains(line, []byte("FETCH (")) {
			if bytes.HasPrefix(line, []byte("a ")) && !bytes.HasPrefix(line, []byte("a OK")) {
				t.Fatalf("%s", line)
			}
			b = rest
			continue
		}
		r := wireReader{b: b[bytes.IndexByte(b, '('):]}
		list, _ := r.value().([]any)
		if r.err != nil || n < 1 || n > len(out)+1 {
			t.Fatalf("answer %d after %d: %v", n, len(out), r.err)
		}
		if n > len(out) {
			out = append(out, map[string]any{})
		}
		item := out[n-1] // a server may tell flags once more, unasked
		for i := 0; i+1 < len(list); i += 2 {
			item[fmt.Sprint(list[i])] = list[i+1]
		}
		b = r.b
	}
	return out
}

func putMaildir(t *testing.T, dir string, n int, b []byte) {
	t.Helper()
	for _, sub := range []string{"cur", "new", "tmp"} {
		if err := os.MkdirAll(filepath.Join(dir, "mail", sub), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "mail", "cur", fmt.Sprintf("%d.M%dP1.test:2,", n, n)), b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// runDovecot feeds the commands to Dovecot on the maildir below dir and returns what it says. It refuses to run
// as root.
func runDovecot(t *testing.T, dir, commands string) []byte {
	t.Helper()
	uid, gid := os.Getuid(), os.Getgid()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, dovecotIMAP, "-c", filepath.Join(dir, "conf"))
	if uid == 0 {
		uid, gid = 65534, 65534
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	}
	conf := fmt.Sprintf("base_dir = %[1]s/run\nstate_dir = %[1]s/run\nlog_path = /dev/stderr\nssl = no\n"+
		"mail_location = maildir:%[1]s/mail\nmail_uid = %d\nmail_gid = %d\nfirst_valid_uid = 1\nfirst_valid_gid = 1\n", dir, uid, gid)
	if err := os.WriteFile(filepath.Join(dir, "conf"), []byte(conf), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		return errors.Join(err, os.Lchown(path, uid, gid))
	}); err != nil {
		t.Fatal(err)
	}
	cmd.Env = []string{"HOME=" + dir, "USER=test"}
	// Dovecot drops the commands that it has not begun when its input ends: it stays open until LOGOUT is done.
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	go func() { _, _ = io.WriteString(stdin, commands) }()
	cmd.WaitDelay = 10 * time.Second
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, stderr.Bytes())
	}
	return out
}
