package main

import (
	"bytes"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"mssd/admin"
	"mssd/auth/psctest"
	"mssd/store"
	"mssd/tlsconf/testpki"
)

// A pharmacist opens the BAL of the pharmacy under her own name, with a client that is not ours, from an installed daemon; who is
// no member does not; and the token stands nowhere in what the daemon has written.
func TestProSanteConnect(t *testing.T) {
	curl := need(t, "curl")
	provider := psctest.New(t)
	h := newHouse(t, fmt.Sprintf(`
[login.psc]
issuer = %q
anchors = ["psc.pem"]
client_id = %q
client_secret_file = "psc.secret"
authorized_parties = [%q]
`, provider.URL, psctest.ClientID, psctest.Software))
	must(t, os.WriteFile(h.path("psc.pem"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: provider.Certificate().Raw}), 0o600))
	must(t, os.WriteFile(h.path("psc.secret"), []byte(psctest.ClientSecret+"\n"), 0o600))
	h.start("--create", "--no-list-yet")
	const bal = "pharmacie@exemple.test"
	for _, args := range [][]string{{"bal", "add", bal, "--kind", store.ORG.String()}, {"member", "add", bal, "rpps:99900000052", "--role", "owner", "--no-password"}} {
		if out, err := h.run(args...); err != nil {
			t.Fatalf("%v: %v\n%s", args, err, out)
		}
	}
	_, port, _ := strings.Cut(h.imap, ":")
	var tokens []string
	// list is what curl says to the names of the mailboxes, and its exit status.
	list := func(mechanism string, c psctest.Claims, initial bool) (string, int) {
		token := provider.Token(c)
		tokens = append(tokens, token)
		args := []string{"-sS", "--ssl-reqd", "--cacert", h.path("anchors.pem"), "--user", bal, "--oauth2-bearer", token,
			"--login-options", "AUTH=" + mechanism, fmt.Sprintf("imap://localhost:%s/", port)}
		if initial {
			args = append(args, "--sasl-ir")
		}
		out, err := exec.Command(curl, args...).CombinedOutput()
		var exit *exec.ExitError
		if err != nil && !errors.As(err, &exit) {
			t.Fatal(err)
		}
		if exit != nil {
			return string(out), exit.ExitCode()
		}
		return string(out), 0
	}
	for _, m := range []string{"XOAUTH2", "OAUTHBEARER"} {
		for _, initial := range []bool{true, false} {
			if out, code := list(m, psctest.Claims{NameID: "899900000052", Hide: true}, initial); code != 0 || !strings.Contains(out, "INBOX") {
				t.Errorf("%s, initial response %v: status %d, %s", m, initial, code, out)
			}
		}
		const denied = 67
		for name, c := range map[string]psctest.Claims{"no member": {Username: "899900000060"}, "other software": {Username: "899900000052", Client: "autre"}} {
			if out, code := list(m, c, true); code != denied {
				t.Errorf("%s, %s: status %d, %s", m, name, code, out)
			}
		}
	}
	owner := provider.Token(psctest.Claims{Username: "899900000052"})
	tokens = append(tokens, owner)
	console := &admin.Client{Socket: h.socket}
	if _, err := console.OwnerAdd(t.Context(), owner, bal, admin.NewMember{ID: "rpps:99900000060", Role: "reader", NoPassword: true}); err != nil {
		t.Errorf("the owner adds a reader: %v", err)
	}
	must(t, os.WriteFile(h.path("header"), []byte("Authorization: Bearer "+owner+"\n"), 0o600)) // as docs/login.md has it
	asked, err := exec.Command(curl, "-sS", "--unix-socket", h.socket, "-H", "@"+h.path("header"), "http://mssd/v1/owner/bals/"+bal+"/members").CombinedOutput()
	must(t, os.Remove(h.path("header")))
	if err != nil || !strings.Contains(string(asked), `"id": "rpps:99900000060"`) {
		t.Errorf("the owner lists the members with curl: %v\n%s", err, asked)
	}
	reader := provider.Token(psctest.Claims{Username: "899900000060"})
	tokens = append(tokens, reader)
	if _, err := console.OwnerEnd(t.Context(), reader, bal, "rpps:99900000052"); err == nil {
		t.Error("a reader ended the owner")
	}
	out, err := h.run("bal", "history", bal)
	if !slices.ContainsFunc(strings.Split(out, "\n"), func(line string) bool {
		return strings.Contains(line, "rpps:99900000060") && strings.Contains(line, "rpps:99900000052")
	}) {
		t.Errorf("the history does not say that the owner added the reader: %v\n%s", err, out)
	}
	provider.Break(http.StatusInternalServerError)
	for range 3 {
		list("XOAUTH2", psctest.Claims{Username: "899900000052"}, true)
	}
	if out, _ := h.run("health"); !strings.Contains(out, "issuer of access tokens") {
		t.Errorf("health does not say that the issuer is down:\n%s", out)
	}
	provider.Answer()
	must(t, h.stop())

	written := []byte(h.log.String())
	must(t, filepath.WalkDir(h.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || filepath.Base(path) == "psc.secret" {
			return err
		}
		b, err := os.ReadFile(path)
		written = append(append(written, path...), b...)
		return err
	}))
	for i, token := range append(tokens, "..."+psctest.ClientSecret) {
		parts := strings.Split(token, ".")
		if last := parts[len(parts)-1]; bytes.Contains(written, []byte(last)) {
			t.Errorf("token %d was written", i)
		}
	}
}

// An application opens its BAL with its certificate on the front of applications, with a client that is not ours; when the operator
// ends the certificate's right, no longer.
func TestApplicationWithCertificate(t *testing.T) {
	curl := need(t, "curl")
	const front, bal = "imap.app.exemple.test", "labo@exemple.test"
	h := newHouse(t, "")
	config, err := os.ReadFile(h.config)
	must(t, err)
	must(t, os.WriteFile(h.config, append(config, fmt.Sprintf("[imap.app]\nhostname = %q\ncert = \"app.pem\"\nkey = \"app.key\"\n", front)...), 0o600))
	pki, err := testpki.New()
	must(t, err)
	server, err := pki.Server(front)
	must(t, err)
	must(t, server.WriteFiles(h.path("app.pem"), h.path("app.key")))
	must(t, pki.WriteAnchors(h.path("app-anchors.pem")))
	h.start("--create", "--no-list-yet")
	member := "cert:OU=300000000000009, CN=smtp.patients.test" // the peer of a house, under the anchors of [trust]
	for _, args := range [][]string{
		{"bal", "add", bal, "--kind", "APP", "--no-member"},
		{"member", "add", bal, member},
		{"bal", "add", "pharmacie@exemple.test", "--kind", "ORG", "--no-member"},
	} {
		if out, err := h.run(args...); err != nil {
			t.Fatalf("%v: %v\n%s", args, err, out)
		}
	}
	if out, err := h.run("member", "add", "pharmacie@exemple.test", member); err == nil || !strings.Contains(out, "imap.app.kinds") {
		t.Errorf("a certificate for an ORG BAL: %v\n%s", err, out)
	}
	if out, err := h.run("member", "add", bal, "cert:C=FR"); err == nil || !strings.Contains(out, "no certificate") {
		t.Errorf("a certificate of everybody: %v\n%s", err, out)
	}
	_, port, _ := strings.Cut(h.imap, ":")
	list := func(args ...string) (string, int) {
		cmd := exec.Command(curl, append([]string{"-sS", "--ssl-reqd", "--cacert", h.path("app-anchors.pem"), "--resolve", front + ":" + port + ":127.0.0.1"},
			append(args, fmt.Sprintf("imap://%s:%s/", front, port))...)...)
		out, _ := cmd.CombinedOutput()
		return string(out), cmd.ProcessState.ExitCode()
	}
	withCert := []string{"--cert", h.path("peer.pem"), "--key", h.path("peer.key")}
	for name, args := range map[string][]string{
		"EXTERNAL":                {"--user", bal + ":", "--login-options", "AUTH=EXTERNAL"},
		"EXTERNAL, first message": {"--user", bal + ":", "--login-options", "AUTH=EXTERNAL", "--sasl-ir"},
		"LOGIN":                   {"--user", bal + ":x", "--login-options", "AUTH=LOGIN"},
		"PLAIN":                   {"--user", bal + ":x", "--login-options", "AUTH=PLAIN"},
	} {
		if out, code := list(append(withCert, args...)...); code != 0 || !strings.Contains(out, "INBOX") {
			t.Errorf("%s: status %d, %s", name, code, out)
		}
		if out, code := list(args...); code == 0 {
			t.Errorf("%s without a certificate: %s", name, out)
		}
	}
	must(t, h.stop())
	alone := freeAddr(t)
	must(t, os.WriteFile(h.config, append(config, fmt.Sprintf("[imap.app]\nlisten = [%q]\nhostname = %q\ncert = \"app.pem\"\nkey = \"app.key\"\n", alone, front)...), 0o600))
	h.start("--no-list-yet")
	if out, code := list(append(withCert, "--user", bal+":", "--login-options", "AUTH=EXTERNAL")...); code == 0 {
		t.Errorf("on the addresses of persons, though it has its own: %s", out)
	}
	_, port, _ = strings.Cut(alone, ":")
	if out, code := list(append(withCert, "--user", bal+":", "--login-options", "AUTH=EXTERNAL")...); code != 0 || !strings.Contains(out, "INBOX") {
		t.Errorf("on an address of its own: status %d, %s", code, out)
	}
	if out, err := h.run("member", "end", bal, "cert:ou=300000000000009,cn=smtp.patients.test"); err != nil {
		t.Fatalf("member end: %v\n%s", err, out)
	}
	if out, code := list(append(withCert, "--user", bal+":", "--login-options", "AUTH=EXTERNAL")...); code == 0 {
		t.Errorf("after the right has ended: %s", out)
	}
	must(t, h.stop())
}
