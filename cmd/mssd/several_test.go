package main

import (
	"bufio"
	"context"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"mssd/auth/psctest"
)

// TestImapflowSeveral: a professional opens their own BAL and that of the pharmacy in one session, with a client that is not ours,
// from an installed daemon; when the operator ends the right on one, the other stays.
func TestImapflowSeveral(t *testing.T) {
	node, lib := need(t, "node"), imapflow(t)
	provider := psctest.New(t)
	h := newHouse(t, fmt.Sprintf(`
[login.psc]
issuer = %q
anchors = ["psc.pem"]
client_id = %q
client_secret_file = "psc.secret"
`, provider.URL, psctest.ClientID))
	must(t, os.WriteFile(h.path("psc.pem"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: provider.Certificate().Raw}), 0o600))
	must(t, os.WriteFile(h.path("psc.secret"), []byte(psctest.ClientSecret+"\n"), 0o600))
	h.start("--create")
	const own, anne = "anne.martin@test-officines.mssante.fr", "rpps:99900000052"
	h.addBAL(own, "PER")
	h.addBAL(officine, "ORG")
	do := func(args ...string) string {
		t.Helper()
		out, err := h.run(args...)
		if err != nil {
			t.Fatalf("%v: %v\n%s", args, err, out)
		}
		return out
	}
	do("member", "add", own, anne, "--role", "owner", "--no-password")
	do("member", "add", officine, anne, "--role", "writer", "--no-password")
	c, err := h.dial()
	must(t, err)
	for n, to := range []string{own, officine} {
		_, err := c.send("274990000000145@"+patientDomain, []string{to}, letter(n, 3000+n, to))
		must(t, err)
	}
	c.quit()

	_, port, _ := strings.Cut(h.imaps, ":")
	script, err := filepath.Abs(filepath.Join("testdata", "imapflow", "several.js"))
	must(t, err)
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	const other = "Other Users/" + officine
	cmd := exec.CommandContext(ctx, node, script, port, "899900000052", h.path("anchors.pem"), other)
	cmd.Env = append(os.Environ(), "NODE_PATH="+filepath.Join(lib, "node_modules"), "TOKEN="+provider.Token(psctest.Claims{NameID: "899900000052"}))
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	must(t, err)
	in, err := cmd.StdinPipe()
	must(t, err)
	must(t, cmd.Start())
	said := map[string]any{}
	for lines := bufio.NewScanner(out); lines.Scan(); {
		var step [2]any
		if err := json.Unmarshal(lines.Bytes(), &step); err != nil {
			t.Errorf("the client said %q", lines.Text())
			continue
		}
		said[step[0].(string)] = step[1]
		if step[0] == "ready" {
			do("member", "end", officine, anne)
			_, err := io.WriteString(in, "go on\n")
			must(t, err)
		}
	}
	if err := cmd.Wait(); err != nil || said["error"] != nil {
		t.Fatalf("%v; %v", err, said["error"])
	}
	for step, want := range map[string]any{
		"special":  []any{"INBOX", "Sent", "Drafts", "Archive", "Junk", "Trash"},
		"mail":     []any{[]any{"INBOX", 1.}, []any{other + "/INBOX", 1.}},
		"own":      []any{[]any{"Ordonnance 0", true}},
		"other":    []any{[]any{"Ordonnance 1", true}},
		"moved":    []any{"Archive", 1.},
		"appended": other + "/Sent",
		"left":     0.,
		"after":    []any{[]any{"Ordonnance 0", true}},
		"end":      true,
	} {
		if d := cmp.Diff(want, said[step]); d != "" {
			t.Errorf("%s (- want, + said by imapflow):\n%s", step, d)
		}
	}
	must(t, h.stop())
}
