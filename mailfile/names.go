package mailfile

import (
	"fmt"
	"path"
	"strings"
	"unicode/utf8"

	"mssd/imapd/wire"
)

// Names of mailboxes go out as names of folders, which other programs and systems must bear, and come in from names
// that anybody may have made. The manifest holds the true ones.

// cleanName makes the name of a mailbox of any text: levels with something in them, no control characters, bounded.
// INBOX where nothing is left.
func cleanName(levels []string) string {
	var out []string
	size := 0
	for _, l := range levels {
		l = strings.Map(func(r rune) rune {
			if r < 0x20 || r >= 0x7f && r < 0xa0 || r == 0x2028 || r == 0x2029 || r == '/' || r == utf8.RuneError {
				return '_'
			}
			return r
		}, strings.ToValidUTF8(l, "_"))
		if l = cut(l, max(0, maxName-size)); l == "" || len(out) == maxDepth {
			continue
		}
		size += len(l) + 1
		out = append(out, l)
	}
	if len(out) == 0 {
		return "INBOX"
	}
	return strings.Join(out, "/")
}

// cut shortens a text to so many octets, between two characters.
func cut(s string, most int) string {
	if len(s) <= most {
		return s
	}
	for most > 0 && !utf8.RuneStart(s[most]) {
		most--
	}
	return s[:most]
}

// folders gives each mailbox a folder of its own.
type folders struct {
	of   map[string]string // name → folder
	used map[string]bool
	fold bool // A and a are the same
}

func (f *folders) add(name string, make func(name, suffix string) string) string {
	if f.of == nil {
		f.of, f.used = map[string]string{}, map[string]bool{}
	}
	if dir, ok := f.of[name]; ok {
		return dir
	}
	dir := make(name, "")
	for n := 2; f.used[f.key(dir)]; n++ {
		dir = make(name, fmt.Sprintf("~%d", n))
	}
	f.of[name], f.used[f.key(dir)] = dir, true
	return dir
}

func (f *folders) key(dir string) string {
	if f.fold {
		return strings.ToLower(dir)
	}
	return dir
}

// maildirFolder is the folder of a mailbox in a Maildir++: "" for INBOX, ".Sent", ".A.B", in modified UTF-7.
func maildirFolder(name, suffix string) string {
	if name == "INBOX" {
		return ""
	}
	dir := dotted(name)
	for whole := true; len(dir) > 200; whole = false { // 255 octets are the most of a name on disk
		if whole {
			suffix = "_" + suffix
		}
		_, last := utf8.DecodeLastRuneInString(name)
		name = strings.TrimRight(name[:len(name)-last], "/")
		dir = dotted(name)
	}
	return dir + suffix
}

// dotted writes the levels of a name with a dot before each.
func dotted(name string) string {
	var b strings.Builder
	for l := range strings.SplitSeq(name, "/") {
		b.WriteByte('.')
		b.WriteString(wire.EncodeUTF7(strings.ReplaceAll(l, ".", "_"))) // the dot stands between levels
	}
	return b.String()
}

// maildirName is the reverse, for any folder below a root: a path of it. A folder whose name begins with a dot is one
// of Maildir++, others stand for one level each.
func maildirName(dir string) string {
	var levels []string
	for l := range strings.SplitSeq(dir, "/") {
		switch rest, plusplus := strings.CutPrefix(l, "."); {
		case l == "" || l == ".":
		case plusplus:
			for p := range strings.SplitSeq(rest, ".") {
				levels = append(levels, decodeUTF7(p))
			}
		default:
			levels = append(levels, decodeUTF7(l))
		}
	}
	return cleanName(levels)
}

// decodeUTF7 leaves what is no modified UTF-7 as it is.
func decodeUTF7(s string) string {
	if name, err := wire.DecodeUTF7(s); err == nil {
		return name
	}
	return s
}

// zipFolder is the folder of a mailbox in a ZIP: its name, each level made harmless for every common system.
func zipFolder(name, suffix string) string {
	levels := strings.Split(name, "/")
	for i, l := range levels {
		levels[i] = zipLevel(l)
	}
	return path.Join(levels...) + suffix
}

var reserved = map[string]bool{"con": true, "prn": true, "aux": true, "nul": true}

func zipLevel(l string) string {
	l = strings.Map(func(r rune) rune {
		if r < 0x20 || r == 0x7f || strings.ContainsRune(`<>:"|?*\/`, r) || r == utf8.RuneError ||
			r >= 0x202a && r <= 0x202e || r >= 0x2066 && r <= 0x2069 { // what turns the direction of writing hides names
			return '_'
		}
		return r
	}, l)
	l = cut(l, 100)
	if t := strings.TrimRight(l, ". "); t != l { // other systems drop these
		l = t + "_"
	}
	base, _, _ := strings.Cut(strings.ToLower(l), ".")
	device := len(base) == 4 && (strings.HasPrefix(base, "com") || strings.HasPrefix(base, "lpt")) && base[3] >= '0' && base[3] <= '9'
	if l == "" || strings.HasPrefix(l, ".") || reserved[base] || device || strings.EqualFold(l, manifestName) {
		l = "_" + l
	}
	if strings.HasSuffix(strings.ToLower(l), ".eml") { // as the messages are called
		l += "_"
	}
	return l
}
