package tlsconf_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"mssd/tlsconf"
	"mssd/tlsconf/testpki"
)

// A damaged file is refused whole: with an authority missing, its peers would be refused for good.
func TestDamagedPEMIsRefused(t *testing.T) {
	c := newCourt(t)
	good := must(os.ReadFile(c.anchors))(t)
	cut := bytes.Replace(good, []byte("-----END CERTIFICATE-----"), []byte("-----END CERT"), 1)
	octet := bytes.Replace(good, []byte("CERTIFICATE-----\nMII"), []byte("CERTIFICATE-----\nM*I"), 1)
	for name, b := range map[string][]byte{
		"end line cut": cut, "bad base64": octet, "second cut off": good[:len(good)-60],
		"of openssl": bytes.ReplaceAll(good, []byte(" CERTIFICATE"), []byte(" TRUSTED CERTIFICATE")),
	} {
		file := filepath.Join(t.TempDir(), "anchors.pem")
		if err := os.WriteFile(file, b, 0o600); err != nil {
			t.Fatal(err)
		}
		if a, err := tlsconf.LoadAnchors([]string{file}); err == nil {
			t.Errorf("%s: %d anchors were read, expected the file to be refused", name, len(a.Certs()))
		} else if !strings.Contains(err.Error(), file) {
			t.Errorf("%s: the error does not name the file: %v", name, err)
		}
	}
	file := filepath.Join(t.TempDir(), "commented.pem")
	if err := os.WriteFile(file, append([]byte("Subject: AC TEST\n"), good...), 0o600); err != nil {
		t.Fatal(err)
	}
	if a, err := tlsconf.LoadAnchors([]string{file}); err != nil || len(a.Certs()) != 2 {
		t.Errorf("a file with comments: %v", err)
	}
}

// The operator of a peer that sends its own certificate only reads what is missing.
func TestMissingIntermediateIsNamed(t *testing.T) {
	c := newCourt(t)
	root := filepath.Join(c.dir, "root.pem")
	if err := testpki.WriteCerts(root, c.pki.Root.Cert); err != nil {
		t.Fatal(err)
	}
	j := c.judge(t, func(cfg *tlsconf.JudgeConfig) { cfg.AnchorFiles = []string{root} })
	chain := must(c.pki.Operator(operator))(t).Chain
	if v := j.Certificates(chain); !v.OK() {
		t.Errorf("whole chain: %s", v.Text())
	}
	if v := j.Certificates(chain[:1]); v.Reason != tlsconf.ForeignChain || !strings.Contains(v.Text(), "its issuer was not sent") {
		t.Errorf("leaf alone: %s", v.Text())
	}
}

func TestTwoListsInOneFile(t *testing.T) {
	c := newCourt(t)
	der := must(c.pki.Issuing.CRL(c.now.Add(-time.Hour), c.now.Add(time.Hour)))(t)
	one := testpki.CRLPEM(der)
	file := filepath.Join(t.TempDir(), "lists.pem")
	if err := os.WriteFile(file, append(one, one...), 0o600); err != nil {
		t.Fatal(err)
	}
	j := c.judge(t, func(cfg *tlsconf.JudgeConfig) { cfg.CRLFiles = []string{file} })
	if err := j.Usable(); err == nil || !strings.Contains(err.Error(), "more than one") {
		t.Errorf("Usable: %v, expected the second list not to be passed over", err)
	}
}
