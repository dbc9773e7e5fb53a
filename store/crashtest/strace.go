package crashtest

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
)

// Call is one system call of a trace.
type Call struct {
	Name  string
	Args  []string // as strace prints them; see text and number
	Ret   int64
	OK    bool // it did what it was asked
	Start int  // line at which it began
	End   int  // line at which it ended; the same where nothing came between
}

// calls are those that change files, names or descriptors, or that a client sees.
const calls = "openat,open,creat,openat2,close,dup,dup2,dup3,fcntl,lseek,write,pwrite64,writev,pwritev,pwritev2,copy_file_range,sendfile,splice," +
	"ftruncate,truncate,fallocate,rename,renameat,renameat2,unlink,unlinkat,rmdir,mkdir,mkdirat,link,linkat,symlink,symlinkat," +
	"fsync,fdatasync,sync,syncfs,sync_file_range,accept4,io_uring_setup"

// Forbidden says why processes may not be traced here, "" where they may: in some containers that is a right which is
// not given.
func Forbidden(strace string) string {
	out, err := exec.Command(strace, "-f", "--seccomp-bpf", "-qq", "-e", "trace=none", "-o", os.DevNull, "--", "true").CombinedOutput()
	if err == nil {
		return ""
	}
	return fmt.Sprintf("%v: %s", err, bytes.TrimSpace(out))
}

// Command is the command line that runs a program under strace, writing to log.
func Command(strace, log string, program ...string) []string {
	return append([]string{strace, "-f", "--seccomp-bpf", "-qq", "-xx", "-s", strconv.Itoa(64 << 20), "-e", "signal=none", "-e", "trace=" + calls, "-o", log, "--"}, program...)
}

var (
	lineForm = regexp.MustCompile(`^(\d+) +(.*)$`)
	resumed  = regexp.MustCompile(`^<\.\.\. (\w+) resumed>(.*)$`)
	started  = regexp.MustCompile(`^(\w+)\((.*)$`)
	result   = regexp.MustCompile(`^(.*)\) += (-?\d+|\?)(.*)$`)
)

// Parse reads the log of strace -f -xx. A call that the end of the process cut short counts as not done.
func Parse(r io.Reader) ([]*Call, error) {
	var all []*Call
	open := map[string]*Call{} // by thread: begun, not ended
	text := map[string]string{}
	sc := bufio.NewScanner(r)
	sc.Buffer(nil, 1<<30)
	for n := 0; sc.Scan(); n++ {
		m := lineForm.FindStringSubmatch(sc.Text())
		if m == nil {
			return nil, fmt.Errorf("line %d of the trace: %q", n+1, clip(sc.Text()))
		}
		pid, rest := m[1], m[2]
		if strings.HasPrefix(rest, "???(") { // strace let go of a thread before it knew the call
			continue
		}
		if strings.HasPrefix(rest, "+++") || strings.HasPrefix(rest, "---") {
			continue
		}
		c := open[pid]
		if m := resumed.FindStringSubmatch(rest); m != nil {
			if c == nil || c.Name != m[1] {
				return nil, fmt.Errorf("line %d of the trace: %q was not begun", n+1, clip(rest))
			}
			rest = text[pid] + m[2]
			delete(open, pid)
		} else if m := started.FindStringSubmatch(rest); m != nil {
			c = &Call{Name: m[1], Start: n}
			all = append(all, c)
			rest = m[2]
			if head, cut := strings.CutSuffix(rest, " <unfinished ...>"); cut {
				open[pid], text[pid] = c, head
				continue
			}
		} else {
			return nil, fmt.Errorf("line %d of the trace: %q", n+1, clip(rest))
		}
		if err := c.finish(rest, n); err != nil {
			return nil, fmt.Errorf("line %d of the trace: %w", n+1, err)
		}
	}
	for pid, c := range open {
		c.Args, c.End = splitArgs(strings.TrimRight(text[pid], ", ")), 1<<62
	}
	return all, sc.Err()
}

func clip(s string) string { return s[:min(len(s), 120)] }

func (c *Call) finish(s string, line int) error {
	m := result.FindStringSubmatch(s)
	if m == nil {
		return fmt.Errorf("no result: %q", clip(s))
	}
	c.End, c.Args = line, splitArgs(m[1])
	if m[2] != "?" {
		var err error
		if c.Ret, err = strconv.ParseInt(m[2], 10, 64); err != nil {
			return err
		}
		c.OK = c.Ret >= 0
	}
	return nil
}

// splitArgs splits at the commas between arguments. Strings are in hex, so that no quote stands within.
func splitArgs(s string) (args []string) {
	depth, quoted, from := 0, false, 0
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '"':
			quoted = !quoted
		case '[', '{', '(':
			depth++
		case ']', '}', ')':
			depth--
		case ',':
			if depth == 0 && !quoted {
				args = append(args, strings.TrimSpace(s[from:i]))
				from = i + 1
			}
		}
	}
	if last := strings.TrimSpace(s[from:]); last != "" {
		args = append(args, last)
	}
	return args
}

// octets are those of all strings in an argument, one after the other.
func octets(arg string) ([]byte, error) {
	var out []byte
	parts := strings.Split(arg, `"`)
	for i := 1; i < len(parts); i += 2 {
		b, err := hex.DecodeString(strings.ReplaceAll(parts[i], `\x`, ""))
		if err != nil {
			return nil, fmt.Errorf("string %q: %w", clip(parts[i]), err)
		}
		out = append(out, b...)
		if i+1 < len(parts) && strings.HasPrefix(parts[i+1], "...") {
			return nil, fmt.Errorf("string cut short: %q", clip(parts[i]))
		}
	}
	return out, nil
}

func (c *Call) arg(i int) string {
	if i >= len(c.Args) {
		return ""
	}
	return c.Args[i]
}

func (c *Call) text(i int) string {
	b, _ := octets(c.arg(i))
	return string(b)
}

func (c *Call) number(i int) int64 {
	n, err := strconv.ParseInt(c.arg(i), 0, 64)
	if err != nil {
		return -1
	}
	return n
}

// Writes reports whether the call writes something that begins so to a descriptor.
func (c *Call) Writes(fd int64, prefix string) bool {
	return c.Name == "write" && c.number(0) == fd && strings.HasPrefix(c.text(1), prefix)
}
