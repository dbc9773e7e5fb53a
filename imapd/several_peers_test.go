package imapd

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"

	"mssd/auth/psctest"
	"mssd/store"
)

// bearer is a message of OAUTHBEARER, as go-imap takes it.
type bearer string

func (b bearer) Start() (mech string, ir []byte, err error) { return "OAUTHBEARER", []byte(b), nil }
func (b bearer) Next([]byte) ([]byte, error)                { return nil, nil }

// TestGoIMAPSeveral: an independent client finds all BALs of a person by NAMESPACE and LIST, reads two of them, and moves a message
// from one to the other.
func TestGoIMAPSeveral(t *testing.T) {
	p := newPersons(t)
	p.receive(ownBAL, mail)
	p.receive(balAddress, multipart)
	c, err := imapclient.DialTLS(p.addr, &imapclient.Options{TLSConfig: p.client})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	token := p.provider.Token(psctest.Claims{NameID: hugoID, Username: hugoID})
	if err := c.Authenticate(bearer("n,a=" + hugoID + ",\x01auth=Bearer " + token + "\x01\x01")); err != nil {
		t.Fatal(err)
	}
	ns, err := c.Namespace().Wait()
	if err != nil || len(ns.Other) != 1 || ns.Other[0].Delim != '/' {
		t.Fatalf("namespaces %+v, %v", ns, err)
	}
	list, err := c.List("", ns.Other[0].Prefix+"*", &imap.ListOptions{ReturnStatus: &imap.StatusOptions{NumMessages: true}}).Collect()
	var boxes []string
	for _, d := range list {
		if d.Status != nil && *d.Status.NumMessages > 0 {
			boxes = append(boxes, d.Mailbox)
		}
	}
	if err != nil || !slices.Equal(boxes, []string{inWritten + "INBOX"}) {
		t.Fatalf("mailboxes with mail: %q, %v", boxes, err)
	}
	read := func(box string, want ...string) {
		t.Helper()
		if _, err := c.Select(box, nil).Wait(); err != nil {
			t.Fatal(err)
		}
		var got []string
		msgs, err := c.Fetch(imap.UIDSet{imap.UIDRange{Start: 1}}, &imap.FetchOptions{BodySection: []*imap.FetchItemBodySection{{}}}).Collect()
		for _, m := range msgs {
			got = append(got, string(m.BodySection[0].Bytes))
		}
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: %q, %v", box, got, err)
		}
	}
	read("INBOX", prefix+mail)
	read(boxes[0], prefix+multipart)
	moved, err := c.Move(imap.UIDSetNum(1), "INBOX").Wait()
	if err != nil || fmt.Sprint(moved.SourceUIDs, moved.DestUIDs) != "1 2" {
		t.Errorf("move: %+v, %v", moved, err)
	}
	read(boxes[0])
	read("INBOX", prefix+mail, prefix+multipart)
	if err := c.Logout().Wait(); err != nil {
		t.Error(err)
	}
}

// TestCurlSeveral reads and uploads in two BALs with a token.
func TestCurlSeveral(t *testing.T) {
	needProgram(t, "curl", exec.LookPath)
	p := newPersons(t)
	p.receive(ownBAL, mail)
	p.receive(balAddress, multipart)
	dir := t.TempDir()
	token := p.provider.Token(psctest.Claims{NameID: hugoID, Username: hugoID})
	_, port, _ := strings.Cut(p.addr, ":")
	base := "imaps://localhost:" + port + "/"
	args := []string{"-sS", "--cacert", p.ca, "--user", hugoID + ":", "--oauth2-bearer", token}
	others := strings.NewReplacer(" ", "%20", "@", "%40").Replace(inWritten)
	for url, want := range map[string]string{base + "INBOX;UID=1": prefix + mail, base + others + "INBOX;UID=1": prefix + multipart} {
		if got := run(t, dir, "curl", append(args, url)...); got != want {
			t.Errorf("%s: %q", url, got)
		}
	}
	file := write(t, dir+"/m.eml", mail)
	run(t, dir, "curl", append(args, "-T", file, base+others+"Sent")...)
	if m := must[store.Mailbox](t, "mailbox")(p.store.Mailbox(p.bal.ID, "Sent")); m.Messages != 1 {
		t.Errorf("Sent of the other BAL has %d messages", m.Messages)
	}
}

// TestMuttSeveral: mutt, logged in with a token, opens the mailbox of another BAL and files one message into the own one.
func TestMuttSeveral(t *testing.T) {
	needProgram(t, "mutt", exec.LookPath)
	needProgram(t, "script", exec.LookPath)
	p := newPersons(t)
	p.receive(balAddress, mail)
	p.receive(balAddress, multipart)
	dir := t.TempDir()
	_, port, _ := strings.Cut(p.addr, ":")
	token := write(t, filepath.Join(dir, "token"), p.provider.Token(psctest.Claims{NameID: hugoID, Username: hugoID}))
	write(t, filepath.Join(dir, "muttrc"), fmt.Sprintf(`set imap_user="%s"
set imap_authenticators="oauthbearer"
set imap_delim_chars="/"
set imap_oauth_refresh_command="cat %s"
set folder="imaps://localhost:%s/"
set spoolfile="imaps://localhost:%s/%sINBOX"
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
push "<first-entry><flag-message><last-entry><save-message>=Archive<enter><sync-mailbox><quit>"
`, hugoID, token, port, port, strings.NewReplacer(" ", "%20", "@", "%40").Replace(inWritten), p.ca))
	run(t, dir, "script", "-qec", "mutt -n -F "+filepath.Join(dir, "muttrc"), filepath.Join(dir, "typescript"))
	if in, ar := p.count(balAddress, "INBOX"), p.count(ownBAL, "Archive"); in != 1 || ar != 1 {
		b, _ := os.ReadFile(filepath.Join(dir, "typescript"))
		t.Errorf("the BAL has %d, the own Archive %d messages; want 1 and 1\n%s", in, ar, b)
	}
}
