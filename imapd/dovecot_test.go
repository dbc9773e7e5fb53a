package imapd

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// dovecotIMAP speaks IMAP to the one who starts it, logged in already.
const dovecotIMAP = "/usr/lib/dovecot/imap"

// dovecot is a Maildir of its own, served by Dovecot 2.3.
type dovecot struct {
	t    *testing.T
	dir  string
	uid  int
	gid  int
	mail int
}

func newDovecot(t *testing.T) *dovecot {
	t.Helper()
	needProgram(t, dovecotIMAP, func(p string) (string, error) { _, err := os.Stat(p); return p, err })
	out := must[[]byte](t, "dovecot --version")(exec.Command("/usr/sbin/dovecot", "--version").Output())
	if v := string(bytes.TrimSpace(out)); !strings.HasPrefix(v, "2.3.") {
		t.Skipf("this is Dovecot %s; the known differences are those of 2.3", v)
	}
	dir := must[string](t, "folder")(os.MkdirTemp("", "dovecot")) // t.TempDir is closed to the user that Dovecot runs as when we are root
	t.Cleanup(func() { os.RemoveAll(dir) })
	d := &dovecot{t: t, dir: dir, uid: os.Getuid(), gid: os.Getgid()}
	if d.uid == 0 {
		d.uid, d.gid = 65534, 65534
	}
	conf := fmt.Sprintf("base_dir = %[1]s/run\nstate_dir = %[1]s/run\nlog_path = %[1]s/log\nssl = no\nmail_location = maildir:%[1]s/mail\n"+
		"mail_uid = %[2]d\nmail_gid = %[3]d\nfirst_valid_uid = 1\nfirst_valid_gid = 1\nmailbox_list_index = yes\nmail_always_cache_fields = \n"+
		"imap_metadata = yes\nmail_attribute_dict = file:%[1]s/mail/attributes\nnamespace inbox {\n inbox = yes\n separator = /\n", dir, d.uid, d.gid)
	for _, name := range []string{"Archive", "Drafts", "Junk", "Sent", "Trash"} {
		conf += fmt.Sprintf(" mailbox %s {\n  auto = subscribe\n  special_use = \\%s\n }\n", name, name)
	}
	if err := errors.Join(os.WriteFile(filepath.Join(dir, "conf"), []byte(conf+"}\n"), 0o644), os.MkdirAll(filepath.Join(dir, "mail", "new"), 0o755),
		os.MkdirAll(filepath.Join(dir, "mail", "cur"), 0o755), os.MkdirAll(filepath.Join(dir, "mail", "tmp"), 0o755)); err != nil {
		t.Fatal(err)
	}
	d.own()
	return d
}

func (d *dovecot) own() {
	if err := filepath.WalkDir(d.dir, func(path string, _ os.DirEntry, err error) error {
		return errors.Join(err, os.Lchown(path, d.uid, d.gid))
	}); err != nil {
		d.t.Fatal(err)
	}
}

// session starts a Dovecot on one end of a socket.
func (d *dovecot) session() *session {
	d.t.Helper()
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		d.t.Fatal(err)
	}
	theirs, ours := os.NewFile(uintptr(fds[0]), "theirs"), os.NewFile(uintptr(fds[1]), "ours")
	defer theirs.Close()
	defer ours.Close()
	nc := must[net.Conn](d.t, "socket")(net.FileConn(ours))
	cmd := exec.Command(dovecotIMAP, "-c", filepath.Join(d.dir, "conf"))
	cmd.Env = []string{"HOME=" + d.dir, "USER=test"}
	cmd.Stdin, cmd.Stdout = theirs, theirs
	if os.Getuid() == 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(d.uid), Gid: uint32(d.gid)}}
	}
	if err := cmd.Start(); err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(func() {
		nc.Close()
		_ = cmd.Wait()
	})
	s := newSession(d.t, nc)
	if l := s.line(); !strings.HasPrefix(l, "* PREAUTH") {
		log, _ := os.ReadFile(filepath.Join(d.dir, "log"))
		d.t.Fatalf("Dovecot greets with %q\n%s", l, log)
	}
	return s
}

// deliver puts a message into a mailbox as a delivery would.
func (d *dovecot) deliver(box, raw string) {
	d.t.Helper()
	dir := filepath.Join(d.dir, "mail")
	if !strings.EqualFold(box, "INBOX") {
		dir = filepath.Join(dir, "."+strings.ReplaceAll(box, "/", "."))
	}
	d.mail++
	name := fmt.Sprintf("17419444%02d.M%dP1.test", d.mail, d.mail) // in the order of delivery, all within 14 March 2025
	tmp := filepath.Join(d.dir, "mail", "tmp", name)
	at := time.Date(2025, 3, 14, 9, 26, 53, 0, time.UTC)
	if err := errors.Join(os.WriteFile(tmp, []byte(raw), 0o644), os.Chtimes(tmp, at, at), os.Lchown(tmp, d.uid, d.gid),
		os.Rename(tmp, filepath.Join(dir, "new", name))); err != nil {
		d.t.Fatal(err)
	}
}

// step is a command of a transcript with its literals, or a line that begins with "!".
type step struct {
	at     int
	lines  []string
	differ string // why Dovecot answers otherwise
	alone  string // why Dovecot does not get it
}

// steps reads what a transcript does. A C line continues the one before if a "S: +" stands between, or if that ends in a
// literal that does not wait.
func steps(script string) []step {
	var out []step
	differ, alone, goesOn := "", "", false
	for i, line := range strings.Split(script, "\n") {
		verb, rest, _ := strings.Cut(line, " ")
		switch {
		case verb == "C:":
			rest = strings.ReplaceAll(rest, `\r\n`, "\r\n")
			if goesOn {
				out[len(out)-1].lines = append(out[len(out)-1].lines, rest)
			} else {
				out = append(out, step{i + 1, []string{rest}, differ, alone})
				differ, alone = "", ""
			}
			goesOn = strings.HasSuffix(rest, "+}")
		case verb == "S:" && strings.HasPrefix(rest, "+"):
			goesOn = true
		case verb == "~":
			differ = rest
		case verb == "~~":
			alone = rest
		case strings.HasPrefix(verb, "!"):
			out = append(out, step{i + 1, []string{line}, "", ""})
			goesOn = false
		}
	}
	return out
}

// play sends a command and gives what came; open is false when the connection ended.
func play(s *session, lines []string) (a answer, open bool) {
	tag, _, _ := strings.Cut(lines[0], " ")
	s.send(lines[0] + "\r\n")
	var untagged []string
	rest := lines[1:]
	for {
		for len(rest) > 0 && strings.HasSuffix(lines[len(lines)-len(rest)-1], "+}") {
			s.send(rest[0] + "\r\n")
			rest = rest[1:]
		}
		l := s.line()
		switch {
		case l == "":
			return normal(untagged, ""), false
		case strings.HasPrefix(l, "+") && len(rest) > 0:
			s.send(rest[0] + "\r\n")
			rest = rest[1:]
		case strings.HasPrefix(l, tag+" "):
			return normal(untagged, strings.TrimPrefix(l, tag+" ")), true
		default:
			untagged = append(untagged, l)
		}
	}
}

// TestTranscriptsAgainstDovecot plays the transcripts against a real Dovecot as well, so that they are tested
// themselves. Where Dovecot answers otherwise a line "~ why" stands before the command, and must be needed.
func TestTranscriptsAgainstDovecot(t *testing.T) {
	files := must[[]string](t, "transcripts")(filepath.Glob("../testdata/imap/*.txt"))
	compared := 0
	for _, f := range files {
		name := strings.TrimSuffix(filepath.Base(f), ".txt")
		script := string(must[[]byte](t, f)(os.ReadFile(f)))
		if strings.Contains("\n"+script, "\n!alone ") {
			continue
		}
		t.Run(name, func(t *testing.T) { compared += againstDovecot(t, script) })
	}
	if compared < 100 {
		t.Errorf("%d commands were compared", compared)
	}
}

// againstDovecot plays a transcript on both, and says how many of its commands got the same answer.
func againstDovecot(t *testing.T, script string) (same int) {
	w, d := newWorld(t, nil), newDovecot(t)
	s, o := w.dial(), d.session()
	s.line()
	var other, otherDovecot *session
	for _, st := range steps(script) {
		verb, rest, _ := strings.Cut(st.lines[0], " ")
		switch {
		case verb == "!deliver":
			box, name, _ := strings.Cut(rest, " ")
			raw := rawMessage(t, name)
			w.deliver(box, raw)
			d.deliver(box, prefix+raw)
			continue
		case verb == "!mail":
			box, raw := composed(rest)
			w.deliver(box, raw)
			d.deliver(box, prefix+raw)
			continue
		case verb == "!other":
			if other == nil {
				other, otherDovecot = w.login(ownerName, ""), d.session()
			}
			other.ok(rest)
			otherDovecot.cmd(rest)
			continue
		case verb == "!ok":
			s.ok(rest)
			o.cmd(rest)
			continue
		case verb == "!end":
			return same
		case strings.HasPrefix(rest, "LOGIN "):
			play(s, st.lines)
			continue
		}
		ours, open := play(s, st.lines)
		if !open {
			return same
		}
		if st.alone != "" {
			continue
		}
		theirs, open := play(o, st.lines)
		if !open {
			t.Errorf("line %d: Dovecot ends the connection after %q", st.at, st.lines)
			return same
		}
		switch differs := ours.String() != theirs.String(); {
		case differs && st.differ == "":
			t.Errorf("line %d: %s\n  ours: %s\n  Dovecot: %s", st.at, strings.Join(st.lines, "\n"), ours, theirs)
		case !differs && st.differ != "":
			t.Errorf("line %d: Dovecot answers as we do: take the line ~ away", st.at)
		case !differs:
			same++
		}
	}
	return same
}
