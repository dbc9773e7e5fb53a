package main

import (
	"bytes"
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"

	"mssd/cmd/mssd/audit"
)

func playSelftest(t *testing.T, change func(*Config)) (*audit.Report, error) {
	t.Helper()
	var out bytes.Buffer
	s := selftest{json: true, out: &out, change: change}
	err := s.play(t.Context())
	r := new(audit.Report)
	if jerr := json.Unmarshal(out.Bytes(), r); jerr != nil {
		t.Fatalf("%v; %v\n%s", err, jerr, &out)
	}
	return r, err
}

// An operator reads that all is well, by number, and finds nothing left.
func TestSelftest(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	r, err := playSelftest(t, nil)
	if err != nil || !r.OK {
		t.Errorf("%v", err)
	}
	audits := map[string]bool{}
	for i, c := range r.Cases {
		if c.Number != i+1 {
			t.Errorf("case %q has the number %d", c.Name, c.Number)
		}
		if c.Outcome != audit.Pass {
			t.Errorf("%d %s: %s %s %+v", c.Number, c.Name, c.Outcome, c.Why, c.Steps)
		}
		for _, s := range c.Steps {
			// A session that ends with a broken renegotiation is no refusal.
			if s.Stored != nil && s.Trace == "" && !strings.HasPrefix(s.Seen, "renegotiation ") {
				t.Errorf("%d %s: no line of the trace", c.Number, c.Name)
			}
		}
		audits[c.Audit] = true
	}
	for _, name := range []string{"cert-valide-audit", "cert-expire-audit", "cert-revoque-audit", "cert-non-igc-audit", "cert-no-match-audit",
		"cert-cn-diff-dn-audit", "sans-tls-audit", "tests-operateur"} {
		if !audits[name] {
			t.Errorf("no case resembles %s", name)
		}
	}
	if r.Version == "" || r.Host == "" || r.Date.IsZero() || len(r.Authorities) != 2 || len(r.Authorities[0].SHA256) != 64 {
		t.Errorf("the head says too little: %+v", r)
	}
	if left, err := os.ReadDir(os.Getenv("TMPDIR")); err != nil || len(left) > 0 {
		t.Errorf("%v is left (%v)", left, err)
	}
}

// An instance that does not look at revocation, takes a list from any of its authority's signers and one that lost most
// domains: exactly what shows this fails, and the exit status says so. What comes after a list that should not have been
// taken fails too: the good one is older.
func TestSelftestSeesABrokenInstance(t *testing.T) {
	r, err := playSelftest(t, func(c *Config) {
		c.Trust.CRLs, c.Trust.CRLURLs = nil, nil
		c.WhiteList.SignerNames = append(c.WhiteList.SignerNames, "un-autre.autotest.test")
		c.WhiteList.MaxLossPercent = 100
	})
	if err == nil || exitStatus(err) != exitFailed || r.OK {
		t.Errorf("%v (exit status %d), OK %v", err, exitStatus(err), r.OK)
	}
	want := []string{
		"OCSP responder unreachable, its answer required", // it is, and the list that would settle a case is not read
		"connection kept open over the revocation",
		"partner that a newer white list no longer has",
		"revocation list expired, past the grace",
		"revocation list past its nextUpdate, within the grace",
		"revocation list renewed",
		"revocation list unreachable, none held",
		"revoked certificate",
		"session resumed after the revocation, TLS 1.2",
		"session resumed after the revocation, TLS 1.3",
		"the good white list again",
		"white list most domains are gone",
		"white list signed by another name of the authority",
		"white list whose signer has expired since",
	}
	var got []string
	for _, c := range r.Cases {
		if c.Outcome != audit.Fail {
			continue
		}
		got = append(got, c.Name)
		if !slices.ContainsFunc(c.Steps, func(s audit.Step) bool { return !s.Passed && len(s.Faults) > 0 }) {
			t.Errorf("%s failed, and no step says why", c.Name)
		}
	}
	if slices.Sort(got); !slices.Equal(got, want) {
		t.Errorf("failed:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if r.Failed != len(got) {
		t.Errorf("%d are said to have failed, %d did", r.Failed, len(got))
	}
	i := slices.IndexFunc(r.Cases, func(c audit.Result) bool { return c.Name == "revoked certificate" })
	if s := r.Cases[i].Steps[0]; s.Stored == nil || *s.Stored != 1 || !strings.HasPrefix(s.Seen, "DATA 250 ") {
		t.Errorf("mail of a revoked peer was taken, the report says %+v", s)
	}
}
