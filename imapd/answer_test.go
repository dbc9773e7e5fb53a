package imapd

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// answer is what a command got, in a form in which two servers can be compared: no texts, no order where there is none,
// no matter how a string was written down, how often a message was told about, nor which numbers a server chose.
type answer struct {
	status string   // OK, NO or BAD
	code   string   // the name of its response code
	data   []string // untagged responses
}

func (a answer) String() string {
	return fmt.Sprintf("%s [%s]\n    %s", a.status, a.code, strings.Join(a.data, "\n    "))
}

// ignoredCodes are those that only inform, and that servers may leave out.
var ignoredCodes = []string{"CLOSED", "HIGHESTMODSEQ", "NOMODSEQ", "UIDVALIDITY", "READ-ONLY", "READ-WRITE", "MAILBOXID",
	// RFC 5530: codes of refusals that a server may give or not
	"ALREADYEXISTS", "NONEXISTENT", "CANNOT", "CLIENTBUG", "EXPUNGEISSUED", "TRYCREATE", "LIMIT", "TOOBIG", "PARSE", "NOPERM"}

// normal makes an answer of the lines of a server.
func normal(untagged []string, tagged string) answer {
	v, _ := values(tagged)
	a := answer{}
	if len(v) > 0 {
		a.status = atom(v[0])
	}
	if len(v) > 1 {
		if name, _ := code(v[1]); !slices.Contains(ignoredCodes, name) {
			a.code = name
		}
	}
	messages := make(map[string]map[string]string) // what FETCH said about a message, in all its responses together
	for _, line := range untagged {
		v, err := values(strings.TrimPrefix(line, "* "))
		if err != nil || len(v) == 0 {
			a.data = append(a.data, fmt.Sprintf("unreadable (%v): %q", err, line))
			continue
		}
		if len(v) > 2 && atom(v[1]) == "FETCH" {
			fetched(messages, atom(v[0]), v[2])
			continue
		}
		if s := untaggedData(v); s != "" {
			a.data = append(a.data, s)
		}
	}
	for n, items := range messages {
		var b strings.Builder
		fmt.Fprintf(&b, "%s FETCH", n)
		for _, k := range sorted(items) {
			fmt.Fprintf(&b, " %s=%s", k, items[k])
		}
		a.data = append(a.data, b.String())
	}
	slices.SortStableFunc(a.data, func(x, y string) int {
		if strings.HasSuffix(x, " EXPUNGE") && strings.HasSuffix(y, " EXPUNGE") {
			return 0 // their order has a meaning
		}
		return strings.Compare(x, y)
	})
	return a
}

func sorted(m map[string]string) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// fetched adds a FETCH response to what is known of its message.
func fetched(messages map[string]map[string]string, n string, list any) {
	items := messages[n]
	if items == nil {
		items = make(map[string]string)
		messages[n] = items
	}
	l, _ := list.([]any)
	for i := 0; i+1 < len(l); i += 2 {
		k := atom(l[i])
		switch k {
		case "MODSEQ", "INTERNALDATE", "SAVEDATE", "EMAILID", "THREADID":
			items[k] = "*"
		case "FLAGS":
			items[k] = set(l[i+1], `\RECENT`)
		case "BODYSTRUCTURE", "BODY", "ENVELOPE":
			items[k] = strings.ToUpper(text(l[i+1]))
		default:
			items[k] = text(l[i+1])
		}
	}
}

// untaggedData is one untagged response, "" if it has nothing to compare.
func untaggedData(v []any) string {
	first := atom(v[0])
	if len(v) > 1 && (atom(v[1]) == "RECENT" || atom(v[1]) == "EXISTS" || atom(v[1]) == "EXPUNGE") {
		if atom(v[1]) == "RECENT" {
			return ""
		}
		return first + " " + atom(v[1])
	}
	switch first {
	case "OK", "NO", "BAD":
		if len(v) == 1 {
			return ""
		}
		name, rest := code(v[1])
		switch {
		case name == "" || slices.Contains(ignoredCodes, name):
			return ""
		case name == "PERMANENTFLAGS":
			return "" // \* is told once here, each new keyword by Dovecot (RFC 3501, Section 7.1)
		}
		if name == "COPYUID" || name == "APPENDUID" {
			rest = rest[1:] // the server's UIDVALIDITY
		}
		return name + " " + text(rest)
	case "FLAGS":
		return "FLAGS " + set(v[1])
	case "LIST", "LSUB":
		return first + " " + set(v[1], `\MARKED`, `\UNMARKED`, `\SUBSCRIBED`) + " " + text(v[2:])
	case "SORT", "THREAD":
		return text(v) // here the order is the answer
	case "SEARCH":
		return "SEARCH " + set(v[1:])
	case "STATUS":
		return "STATUS " + text(v[1]) + " " + pairs(v[2].([]any), "UIDVALIDITY", "RECENT", "HIGHESTMODSEQ")
	case "ESEARCH":
		if l, ok := v[1].([]any); ok && len(l) > 0 && atom(l[0]) == "TAG" {
			v = v[1:]
		}
		rest := v[1:]
		uid := ""
		if len(rest) > 0 && atom(rest[0]) == "UID" {
			uid, rest = " UID", rest[1:]
		}
		return "ESEARCH" + uid + " " + pairs(rest, "MODSEQ")
	case "CAPABILITY", "ID", "ENABLED":
		return ""
	}
	return text(v)
}

// pairs are names and values in any order; of those named, the value does not count.
func pairs(l []any, any ...string) string {
	m := make(map[string]string)
	for i := 0; i+1 < len(l); i += 2 {
		k := atom(l[i])
		if m[k] = text(l[i+1]); slices.Contains(any, k) {
			m[k] = "*"
		}
	}
	var out []string
	for _, k := range sorted(m) {
		out = append(out, k+"="+m[k])
	}
	return strings.Join(out, " ")
}

// set is a list in which the order has no meaning, without some of its members.
func set(v any, without ...string) string {
	l, _ := v.([]any)
	var out []string
	for _, e := range l {
		if s := atom(e); !slices.Contains(without, s) {
			out = append(out, s)
		}
	}
	slices.Sort(out)
	return "{" + strings.Join(out, " ") + "}"
}

// code is a response code, [NAME args], read by values as a list that begins with "[".
func code(v any) (name string, args []any) {
	l, ok := v.([]any)
	if !ok || len(l) < 2 || l[0] != "[" {
		return "", nil
	}
	return atom(l[1]), append(l[2:], []any{})
}

func atom(v any) string {
	s, _ := v.(string)
	return strings.ToUpper(s)
}

func text(v any) string {
	switch v := v.(type) {
	case string:
		if v == "NIL" {
			return `""` // RFC 3501, Section 9: nstring; which of both is no difference here
		}
		return strconv.Quote(v)
	case []any:
		out := make([]string, len(v))
		for i, e := range v {
			out[i] = text(e)
		}
		return "(" + strings.Join(out, " ") + ")"
	}
	return ""
}

// values reads a response line with its literals: strings, and lists of them. [ ] are a list whose first element is "["
// where they begin a word; within one they belong to it, with all they hold (BODY[HEADER.FIELDS (DATE)]).
func values(line string) ([]any, error) {
	p := &answerParser{s: line}
	v := p.list(0)
	if p.err == nil && p.i < len(p.s) {
		p.err = fmt.Errorf("stopped at octet %d", p.i)
	}
	return v, p.err
}

type answerParser struct {
	s   string
	i   int
	err error
}

func (p *answerParser) list(end byte) []any {
	out := []any{}
	for p.i < len(p.s) && p.err == nil {
		switch c := p.s[p.i]; {
		case c == end && end != 0:
			p.i++
			return out
		case c == ' ':
			p.i++
		case c == '(':
			p.i++
			out = append(out, p.list(')'))
		case c == '[':
			p.i++
			out = append(out, append([]any{"["}, p.list(']')...))
		case c == '"':
			out = append(out, p.quoted())
		case c == '{':
			out = append(out, p.literal())
		default:
			out = append(out, p.word(end))
		}
	}
	if end != 0 && p.err == nil {
		p.err = fmt.Errorf("no %q", end)
	}
	return out
}

func (p *answerParser) quoted() string {
	var b strings.Builder
	for p.i++; p.i < len(p.s); p.i++ {
		switch p.s[p.i] {
		case '"':
			p.i++
			return b.String()
		case '\\':
			p.i++
		}
		if p.i < len(p.s) {
			b.WriteByte(p.s[p.i])
		}
	}
	p.err = fmt.Errorf("a string without an end")
	return ""
}

func (p *answerParser) literal() string {
	at := strings.Index(p.s[p.i:], "}\r\n")
	if at < 0 {
		return p.word(0) // a brace in a text
	}
	n, err := strconv.Atoi(p.s[p.i+1 : p.i+at])
	from := p.i + at + 3
	if err != nil || from+n > len(p.s) {
		p.err = fmt.Errorf("a literal that is not whole")
		return ""
	}
	p.i = from + n
	return p.s[from:p.i]
}

// word ends at a space, at the end of its list, or with the section that it names.
func (p *answerParser) word(end byte) string {
	from, depth := p.i, 0
	for ; p.i < len(p.s); p.i++ {
		switch c := p.s[p.i]; {
		case c == '[':
			depth++
		case c == ']' && depth > 0:
			depth--
		case depth == 0 && (c == ' ' || c == '(' || c == ')' || end != 0 && c == end):
			if c == ')' && end != ')' {
				continue // in a text
			}
			return p.s[from:p.i]
		}
	}
	return p.s[from:p.i]
}
