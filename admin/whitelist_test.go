package admin

import (
	"bytes"
	"crypto/x509"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"mssd/directory/whitelist"
	"mssd/tlsconf"
	"mssd/tlsconf/testpki"
)

// An operator looks a list up, tries another one on the partners, and takes it against the rule on losses.
func TestWhiteListByHand(t *testing.T) {
	pki, err := testpki.New()
	if err != nil {
		t.Fatal(err)
	}
	signer, err := pki.Signer("signataire.test", "liste@mssante.test")
	if err != nil {
		t.Fatal(err)
	}
	const dn = "CN=smtp.test,OU=300000000000001,O=A,C=FR"
	list := func(at time.Time, domains ...string) []byte {
		var rows []whitelist.Binding
		for _, d := range domains {
			rows = append(rows, whitelist.Binding{Domain: d, DN: dn})
		}
		var b bytes.Buffer
		if err := whitelist.Make(&b, rows, signer.Cert, signer.Key, at); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	dir := t.TempDir()
	file := filepath.Join(dir, "list.xml")
	at := time.Now().Add(-2 * time.Minute)
	if err := os.WriteFile(file, list(at, "a.test", "b.test", "c.test", "d.test"), 0o600); err != nil {
		t.Fatal(err)
	}
	keeper, err := whitelist.NewKeeper(whitelist.KeeperConfig{File: file, StateDir: dir, Load: whitelist.Options{
		Anchors: tlsconf.NewAnchors(pki.Root.Cert, pki.Issuing.Cert), SignerNames: []string{"signataire.test"}}})
	if err != nil {
		t.Fatal(err)
	}
	partners := whitelist.OpenPartners(dir, nil, nil)
	name, err := tlsconf.ParseDN(dn)
	if err != nil {
		t.Fatal(err)
	}
	partners.Seen("b.test", tlsconf.Verdict{Reason: tlsconf.OK, DN: name, Leaf: &x509.Certificate{}})
	h := open(t, func(s *Server) { s.List, s.Partners = keeper, partners })

	if doc, err := h.WhiteList(t.Context()); err != nil || doc.Domains != 4 || doc.Partners != 1 || doc.Usable != "" {
		t.Errorf("status: %+v, %v", doc, err)
	}
	if found, err := h.FindInList(t.Context(), "B.TEST"); err != nil || len(found) != 1 || found[0].DNs[0] != dn {
		t.Errorf("find: %+v, %v", found, err)
	}
	if _, err := h.FindInList(t.Context(), "x"); err == nil {
		t.Error("a question of one letter is answered")
	}
	short := list(at.Add(time.Minute), "a.test")
	doc, err := h.PreviewList(t.Context(), short)
	if err != nil || doc.Seen != 1 || len(doc.Refused) != 1 || doc.Refused[0].Domain != "b.test" || doc.Refused[0].Listed {
		t.Errorf("preview: %+v, %v", doc, err)
	}
	if keeper.Current().Domains() != 4 {
		t.Error("the preview put a list in force")
	}
	if now, err := h.AcceptList(t.Context(), short); err != nil || now.Domains != 1 || keeper.Current().Domains() != 1 ||
		!strings.Contains(now.Outlook, "within 1h0m0s the list of "+file) || strings.Contains(now.Outlook, "until now") {
		t.Errorf("accept: %+v, %v", now, err)
	}
	// What it says of an older list comes true at the next look; of one that stands at its source there is nothing to say.
	if now, err := h.AcceptList(t.Context(), list(at.Add(-time.Minute), "a.test", "b.test", "c.test")); err != nil || !strings.Contains(now.Outlook, "(the one that was in force until now is)") {
		t.Errorf("accept of an older one: %+v, %v", now, err)
	}
	if err := keeper.Reload(t.Context()); err != nil || keeper.Current().Domains() != 4 {
		t.Errorf("the next look: %v, %d domains", err, keeper.Current().Domains())
	}
	same, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if now, err := h.AcceptList(t.Context(), same); err != nil || now.Outlook != "" {
		t.Errorf("accept of what stands at the source: %+v, %v", now, err)
	}
	var p *Problem
	altered := bytes.Replace(list(at, "a.test", "e.test"), []byte("e.test"), []byte("f.test"), 1)
	if _, err := h.AcceptList(t.Context(), altered); !errors.As(err, &p) || !strings.Contains(p.Error(), "refused") || strings.Contains(p.Error(), os.TempDir()) {
		t.Errorf("an altered list: %v", err)
	}
	if _, err := h.PreviewList(t.Context(), make([]byte, whitelist.MaxSize+1)); !errors.As(err, &p) || !strings.Contains(p.Error(), "larger") {
		t.Errorf("a list that is too large: %v", err)
	}
}
