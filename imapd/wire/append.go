package wire

import (
	"strconv"
	"strings"
)

// maxQuoted is the longest string sent in quotes: longer ones go as literals, which no client limits.
const maxQuoted = 1000 // octets

// AppendQuoted appends s in quotes. s holds no CR, LF, NUL, and no 8-bit octets unless UTF-8 is enabled:
// AppendString looks.
func AppendQuoted(dst []byte, s string) []byte {
	dst = append(dst, '"')
	for {
		i := strings.IndexAny(s, `"\`)
		if i < 0 {
			break
		}
		dst = append(dst, s[:i]...)
		dst = append(dst, '\\', s[i])
		s = s[i+1:]
	}
	dst = append(dst, s...)
	return append(dst, '"')
}

// AppendString appends s in quotes if it may stand there, else as a literal. NUL has no syntax and becomes "?".
func AppendString(dst []byte, s string) []byte {
	if len(s) <= maxQuoted && isPrintable(s) {
		return AppendQuoted(dst, s)
	}
	dst = AppendLiteralHead(dst, int64(len(s)))
	at := len(dst)
	dst = append(dst, s...)
	for i := at; i < len(dst); i++ {
		if dst[i] == 0 {
			dst[i] = '?'
		}
	}
	return dst
}

func isPrintable(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] < 0x20 || s[i] > 0x7e {
			return false
		}
	}
	return true
}

// AppendNString appends s as AppendString does, or NIL when there is none.
func AppendNString(dst []byte, s string, ok bool) []byte {
	if !ok {
		return append(dst, "NIL"...)
	}
	return AppendString(dst, s)
}

// AppendAString appends s as an atom if it can be one, else as a string.
func AppendAString(dst []byte, s string) []byte {
	if isAtom(s) && !strings.EqualFold(s, "NIL") && len(s) <= maxQuoted {
		return append(dst, s...)
	}
	return AppendString(dst, s)
}

// AppendMailbox appends a mailbox name: in modified UTF-7 (RFC 3501, Section 5.1.3), or in UTF-8 for a session that
// enabled it (RFC 9755, Section 3).
func AppendMailbox(dst []byte, name string, inUTF8 bool) []byte {
	if !inUTF8 {
		return AppendAString(dst, EncodeUTF7(name))
	}
	if isPrintable(name) || strings.ContainsAny(name, "\x00\r\n") {
		return AppendAString(dst, name)
	}
	return AppendQuoted(dst, strings.ToValidUTF8(name, "\uFFFD"))
}

// AppendLiteralHead appends "{n}" CRLF; n octets must follow.
func AppendLiteralHead(dst []byte, n int64) []byte {
	dst = append(dst, '{')
	dst = strconv.AppendInt(dst, n, 10)
	return append(dst, "}\r\n"...)
}

// AppendNumber appends n.
func AppendNumber(dst []byte, n uint64) []byte { return strconv.AppendUint(dst, n, 10) }

// ListData is one LIST or LSUB response.
type ListData struct {
	Command    string   // "LIST" or "LSUB"
	Attributes []string // as printed: `\Sent`
	Delim      byte     // 0: NIL
	Name       string   // UTF-8
	OldName    string   // "" none; ("OLDNAME" (name)), RFC 5465, Section 5.4
	ChildInfo  []string // options that select a name below: ("CHILDINFO" ("SUBSCRIBED")), RFC 5258, Section 3.5
}

// AppendList appends a LIST or LSUB response, a whole line.
func AppendList(dst []byte, d ListData, inUTF8 bool) []byte {
	dst = append(dst, "* "...)
	dst = append(dst, d.Command...)
	dst = append(dst, " ("...)
	for i, a := range d.Attributes {
		if i > 0 {
			dst = append(dst, ' ')
		}
		dst = append(dst, a...)
	}
	dst = append(dst, ") "...)
	dst = AppendNString(dst, string([]byte{d.Delim}), d.Delim != 0)
	dst = append(dst, ' ')
	dst = AppendMailbox(dst, d.Name, inUTF8)
	if d.OldName != "" {
		dst = AppendMailbox(append(dst, ` ("OLDNAME" (`...), d.OldName, inUTF8)
		dst = append(dst, "))"...)
	}
	if len(d.ChildInfo) > 0 {
		dst = append(dst, ` ("CHILDINFO" ("`...)
		dst = append(dst, strings.Join(d.ChildInfo, `" "`)...)
		dst = append(dst, `"))`...)
	}
	return append(dst, "\r\n"...)
}

// StatusValue is one item of a STATUS response.
type StatusValue struct {
	Item  StatusItem
	Value uint64
	Text  string // instead of Value, as printed
}

// AppendStatus appends a STATUS response, a whole line.
func AppendStatus(dst []byte, name string, inUTF8 bool, values []StatusValue) []byte {
	dst = append(dst, "* STATUS "...)
	dst = AppendMailbox(dst, name, inUTF8)
	dst = append(dst, " ("...)
	for i, v := range values {
		if i > 0 {
			dst = append(dst, ' ')
		}
		dst = append(dst, v.Item...)
		dst = append(dst, ' ')
		if v.Text != "" {
			dst = append(dst, v.Text...)
		} else {
			dst = AppendNumber(dst, v.Value)
		}
	}
	return append(dst, ")\r\n"...)
}

// ESearch is an ESEARCH response (RFC 4731, Section 3.1; RFC 9051, Section 7.3.4). Of its values only those in Return are printed; Min, Max
// and All are left out when nothing was found.
type ESearch struct {
	Tag      string
	UID      bool
	Return   SearchReturn
	Min, Max uint32
	Count    uint32
	All      []Range // in the order of the result
	Partial  []Range // what Window shows of the result
	Window   Window
	ModSeq   uint64 // 0: left out
}

// AppendESearch appends an ESEARCH response, a whole line.
func AppendESearch(dst []byte, e ESearch) []byte {
	dst = append(dst, "* ESEARCH (TAG "...)
	dst = AppendQuoted(dst, e.Tag)
	dst = append(dst, ')')
	if e.UID {
		dst = append(dst, " UID"...)
	}
	item := func(name string, n uint64) {
		dst = append(dst, name...)
		dst = AppendNumber(dst, n)
	}
	if e.Return&ReturnMin != 0 && e.Min != 0 {
		item(" MIN ", uint64(e.Min))
	}
	if e.Return&ReturnMax != 0 && e.Max != 0 {
		item(" MAX ", uint64(e.Max))
	}
	if e.Return&ReturnAll != 0 && len(e.All) > 0 {
		dst = append(dst, " ALL "...)
		dst = AppendSet(dst, e.All)
	}
	if e.Return&ReturnPartial != 0 {
		dst = append(append(append(dst, " PARTIAL ("...), e.Window.Label...), ' ')
		if len(e.Partial) == 0 {
			dst = append(dst, "NIL"...)
		}
		dst = append(AppendSet(dst, e.Partial), ')')
	}
	if e.Return&ReturnCount != 0 {
		item(" COUNT ", uint64(e.Count))
	}
	if e.ModSeq != 0 {
		item(" MODSEQ ", e.ModSeq)
	}
	return append(dst, "\r\n"...)
}

// AppendSearch appends " n" for each number of the ranges: the middle of a SEARCH response. It expands them, so they
// must be the server's own.
func AppendSearch(dst []byte, ranges []Range) []byte {
	for _, r := range ranges {
		for n := uint64(r.First); n <= uint64(r.Last); n++ {
			dst = append(dst, ' ')
			dst = AppendNumber(dst, n)
		}
	}
	return dst
}

// AppendFetchHead appends "* n FETCH (".
func AppendFetchHead(dst []byte, seq uint32) []byte {
	dst = append(dst, "* "...)
	dst = AppendNumber(dst, uint64(seq))
	return append(dst, " FETCH ("...)
}

// AppendCapability appends "CAPABILITY" and the names, without line end: for the response and for the response code.
func AppendCapability(dst []byte, caps []string) []byte {
	dst = append(dst, "CAPABILITY"...)
	for _, c := range caps {
		dst = append(dst, ' ')
		dst = append(dst, c...)
	}
	return dst
}

// AppendCopyUID appends "[COPYUID v from to]" (RFC 4315, Section 3). Both sets hold at least one UID, and as many.
func AppendCopyUID(dst []byte, validity uint32, from, to []Range) []byte {
	dst = append(dst, "[COPYUID "...)
	dst = AppendNumber(dst, uint64(validity))
	dst = append(dst, ' ')
	dst = AppendSet(dst, from)
	dst = append(dst, ' ')
	dst = AppendSet(dst, to)
	return append(dst, ']')
}

// AppendAppendUID appends "[APPENDUID v uids]" (RFC 4315, Section 3): those of the messages of one APPEND.
func AppendAppendUID(dst []byte, validity uint32, uids Range) []byte {
	dst = append(dst, "[APPENDUID "...)
	dst = AppendNumber(dst, uint64(validity))
	dst = append(dst, ' ')
	dst = AppendSet(dst, []Range{uids})
	return append(dst, ']')
}
