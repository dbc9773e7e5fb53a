package imapd

import (
	"context"
	"crypto/tls"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"
)

// TestGoIMAP: an independent client reads what we write.
func TestGoIMAP(t *testing.T) {
	w := newWorld(t, nil)
	w.deliver("INBOX", mail)
	w.deliver("INBOX", multipart)
	c, err := imapclient.DialTLS(w.addr, &imapclient.Options{TLSConfig: w.client})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.Login(ownerName, password).Wait(); err != nil {
		t.Fatal(err)
	}
	list, err := c.List("", "*", &imap.ListOptions{ReturnStatus: &imap.StatusOptions{NumMessages: true}}).Collect()
	if err != nil || len(list) != 6 || list[2].Status == nil {
		t.Fatalf("list: %v %+v", err, list)
	}
	if sel, err := c.Select("INBOX", nil).Wait(); err != nil || sel.NumMessages != 2 || sel.UIDNext != 3 {
		t.Fatalf("select: %v %+v", err, sel)
	}
	msgs, err := c.Fetch(imap.SeqSetNum(1, 2), &imap.FetchOptions{Envelope: true, UID: true, Flags: true, RFC822Size: true, InternalDate: true,
		BodyStructure: &imap.FetchItemBodyStructure{Extended: true}, BodySection: []*imap.FetchItemBodySection{{Peek: true}}}).Collect()
	if err != nil || len(msgs) != 2 {
		t.Fatalf("fetch: %v, %d messages", err, len(msgs))
	}
	if e := msgs[0].Envelope; e.Subject != "Ordonnance pour Noël" || e.From[0].Name != "Hélène Durand" || e.MessageID != "1@exemple.test" {
		t.Errorf("envelope %+v", e)
	}
	if got := string(msgs[1].BodySection[0].Bytes); got != prefix+multipart {
		t.Errorf("body %q", got)
	}
	if s, ok := msgs[1].BodyStructure.(*imap.BodyStructureMultiPart); !ok || len(s.Children) != 3 || s.Subtype != "mixed" {
		t.Errorf("structure %#v", msgs[1].BodyStructure)
	}
	found, err := c.UIDSearch(&imap.SearchCriteria{Text: []string{"ELEMENT"}}, nil).Wait()
	if err != nil || fmt.Sprint(found.AllUIDs()) != "[1]" {
		t.Errorf("search: %v %v", err, found)
	}
	move, err := c.Move(imap.UIDSetNum(1), "Archive").Wait()
	if err != nil || fmt.Sprint(move.SourceUIDs, move.DestUIDs) != "1 1" {
		t.Errorf("move: %v %+v", err, move)
	}
	if data, err := c.Status("Archive", &imap.StatusOptions{NumMessages: true, UIDNext: true}).Wait(); err != nil || *data.NumMessages != 1 {
		t.Errorf("status: %v %+v", err, data)
	}
	if err := c.Logout().Wait(); err != nil {
		t.Errorf("logout: %v", err)
	}
}

// run runs a client and returns what it said.
func run(t *testing.T, dir, name string, args ...string) string {
	t.Helper()
	path := needProgram(t, name, exec.LookPath)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "HOME="+dir, "TERM=dumb", "LC_ALL=C.UTF-8")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
	return string(out)
}

func write(t *testing.T, name, text string) string {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// TestMbsync syncs both ways, twice: the second time there is nothing to do, and changes of both sides have crossed.
func TestMbsync(t *testing.T) {
	needProgram(t, "mbsync", exec.LookPath)
	w := newWorld(t, nil)
	for range 3 {
		w.deliver("INBOX", mail)
	}
	w.deliver("Archive", multipart)
	dir := t.TempDir()
	host, port, _ := strings.Cut(w.addr, ":")
	conf := write(t, filepath.Join(dir, "mbsyncrc"), fmt.Sprintf(`IMAPAccount a
Host %s
Port %s
User "%s"
Pass "%s"
SSLType IMAPS
CertificateFile %s

IMAPStore far
Account a

MaildirStore near
Path %s/
Inbox %s/INBOX
SubFolders Verbatim

Channel all
Far :far:
Near :near:
Patterns *
Create Both
Expunge Both
Sync All
SyncState *
`, "localhost", port, ownerName, password, w.ca, filepath.Join(dir, "mail"), filepath.Join(dir, "mail")))
	_ = host
	if err := os.MkdirAll(filepath.Join(dir, "mail"), 0o700); err != nil {
		t.Fatal(err)
	}
	run(t, dir, "mbsync", "-c", conf, "-a")
	near := maildir(t, filepath.Join(dir, "mail", "INBOX"))
	if len(near) != 3 {
		t.Fatalf("%d messages came", len(near))
	}
	b, err := os.ReadFile(near[0])
	if err != nil || strings.ReplaceAll(stripTUID(string(b)), "\n", "\r\n") != prefix+mail {
		t.Errorf("the message that came is %q (%v)", b, err)
	}
	// The near side flags one, removes one and adds one; the far side gets one more.
	flagged := strings.TrimSuffix(filepath.Base(near[0]), ":2,")
	if err := os.Rename(near[0], filepath.Join(dir, "mail", "INBOX", "cur", strings.Split(flagged, ":")[0]+":2,FS")); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(near[1]); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "mail", "INBOX", "cur", "1.new.test:2,S"), strings.ReplaceAll(multipart, "\r\n", "\n"))
	w.deliver("INBOX", multipart)
	run(t, dir, "mbsync", "-c", conf, "-a")
	box := w.box("INBOX")
	if box.Messages != 4 || box.Unseen != 2 {
		t.Errorf("the server has %d messages, %d unseen; want 4, 2", box.Messages, box.Unseen)
	}
	if near = maildir(t, filepath.Join(dir, "mail", "INBOX")); len(near) != 4 {
		t.Errorf("the near side has %d messages, want 4", len(near))
	}
	before := box.HighestModSeq
	run(t, dir, "mbsync", "-c", conf, "-a")
	if after := w.box("INBOX").HighestModSeq; after != before {
		t.Errorf("a sync with nothing to do changed the mailbox: MODSEQ %d, was %d", after, before)
	}
}

// stripTUID takes out the line that mbsync may add while it uploads.
func stripTUID(s string) string {
	var out []string
	for l := range strings.SplitSeq(s, "\n") {
		if !strings.HasPrefix(l, "X-TUID:") {
			out = append(out, l)
		}
	}
	return strings.Join(out, "\n")
}

func maildir(t *testing.T, dir string) []string {
	t.Helper()
	var all []string
	for _, sub := range []string{"cur", "new"} {
		m, err := filepath.Glob(filepath.Join(dir, sub, "*"))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, m...)
	}
	return all
}

// TestMutt opens the mailbox, flags and moves a message, and leaves; in clear and compressed (which mutt flushes partially).
func TestMutt(t *testing.T) {
	needProgram(t, "mutt", exec.LookPath)
	for _, deflate := range []string{"no", "yes"} {
		t.Run("imap_deflate="+deflate, func(t *testing.T) {
			w := newWorld(t, nil)
			playMutt(t, w, deflate)
			if got := strings.Contains(w.logs.String(), "cmd=COMPRESS code=OK"); got != (deflate == "yes") {
				t.Errorf("compressed: %v", got)
			}
		})
	}
}

func playMutt(t *testing.T, w *world, deflate string) {
	w.deliver("INBOX", mail)
	w.deliver("INBOX", multipart)
	dir := t.TempDir()
	_, port, _ := strings.Cut(w.addr, ":")
	write(t, filepath.Join(dir, "muttrc"), fmt.Sprintf(`set imap_user="%s"
set imap_pass="%s"
set folder="imaps://localhost:%s/"
set spoolfile="imaps://localhost:%s/INBOX"
set certificate_file="%s"
set ssl_usesystemcerts=no
set ssl_verify_host=yes
set mail_check=0
set quit=yes
set move=no
set confirmappend=no
set confirmcreate=no
set wait_key=no
set delete=yes
set header_cache=""
set imap_deflate=%s
push "<first-entry><flag-message><last-entry><save-message>=Archive<enter><sync-mailbox><quit>"
`, ownerName, password, port, port, w.ca, deflate))
	needProgram(t, "script", exec.LookPath)
	run(t, dir, "script", "-qec", "mutt -n -F "+filepath.Join(dir, "muttrc"), filepath.Join(dir, "typescript"))
	if in, ar := w.box("INBOX").Messages, w.box("Archive").Messages; in != 1 || ar != 1 {
		b, _ := os.ReadFile(filepath.Join(dir, "typescript"))
		t.Errorf("INBOX has %d, Archive %d; want 1 and 1\n%s", in, ar, b)
	}
	s := w.login(ownerName, "INBOX")
	if un := s.ok("FETCH 1 FLAGS"); !strings.Contains(strings.Join(un, ""), `\Flagged`) {
		s.fail("not flagged: %q", un)
	}
}

// TestCurl reads, searches and uploads, over implicit TLS and STARTTLS.
func TestCurl(t *testing.T) {
	needProgram(t, "curl", exec.LookPath)
	for _, implicit := range []bool{true, false} {
		t.Run(fmt.Sprintf("implicit=%v", implicit), func(t *testing.T) {
			w := newWorld(t, func(s *Server) { s.Implicit = implicit })
			w.deliver("INBOX", mail)
			_, port, _ := strings.Cut(w.addr, ":")
			scheme := map[bool]string{true: "imaps", false: "imap"}[implicit]
			url := fmt.Sprintf("%s://localhost:%s/", scheme, port)
			args := []string{"-sS", "--ssl-reqd", "--cacert", w.ca, "--user", ownerName + ":" + password}
			dir := t.TempDir()
			if got := run(t, dir, "curl", append(args, url+"INBOX;UID=1")...); got != prefix+mail {
				t.Errorf("fetched %q", got)
			}
			if got := run(t, dir, "curl", append(args, url+"INBOX?TEXT%20helene")...); got != "* SEARCH 1\r\n" {
				t.Errorf("search %q", got)
			}
			file := write(t, filepath.Join(dir, "m.eml"), multipart)
			run(t, dir, "curl", append(args, "-T", file, url+"Sent")...)
			if got := run(t, dir, "curl", append(args, url+"Sent;UID=1")...); got != multipart {
				t.Errorf("uploaded and fetched %q", got)
			}
		})
	}
}

// TestResumption: clients that open a connection for each action resume their TLS session.
func TestResumption(t *testing.T) {
	w := newWorld(t, nil)
	cfg := w.client.Clone()
	cfg.ClientSessionCache = tls.NewLRUClientSessionCache(1)
	for i := range 2 {
		nc, err := tls.Dial("tcp", w.addr, cfg)
		if err != nil {
			t.Fatal(err)
		}
		s := newSession(t, nc)
		s.line()
		s.ok("LOGOUT")
		if resumed := nc.ConnectionState().DidResume; resumed != (i > 0) {
			t.Errorf("connection %d: resumed %v", i, resumed)
		}
		nc.Close()
	}
}
