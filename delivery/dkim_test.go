package delivery

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"runtime"
	"slices"
	"strings"

	"testing"
	"testing/synctest"
	"time"

	"github.com/emersion/go-msgauth/dkim"
)

// signer signs messages for a domain whose key its DNS holds.
type signer struct {
	t   testing.TB
	key ed25519.PrivateKey
	dns map[string]string
}

func newSigner(t testing.TB) *signer {
	pub, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return &signer{t, key, map[string]string{
		"cle._domainkey.operateur.test": "v=DKIM1; k=ed25519; p=" + base64.StdEncoding.EncodeToString(pub)}}
}

func (s *signer) lookup(_ context.Context, name string) ([]string, error) {
	if txt, ok := s.dns[name]; ok {
		return []string{txt}, nil
	}
	return nil, &net.DNSError{Err: "no such host", Name: name, IsNotFound: true}
}

func (s *signer) sign(msg, domain string) string {
	var b bytes.Buffer
	err := dkim.Sign(&b, strings.NewReader(msg), &dkim.SignOptions{Domain: domain, Selector: "cle", Signer: s.key,
		HeaderCanonicalization: dkim.CanonicalizationRelaxed, BodyCanonicalization: dkim.CanonicalizationRelaxed})
	if err != nil {
		s.t.Fatal(err)
	}
	return b.String()
}

// signatures are the results for a message that arrives in pieces of n octets.
func signaturesOf(t testing.TB, d *DKIM, msg string, n int) []Signature {
	t.Helper()
	tap := dkimTap{d: d}
	for len(msg) > 0 {
		k := min(n, len(msg))
		tap.write([]byte(msg[:k]))
		msg = msg[k:]
	}
	return tap.finish()
}

func TestDKIM(t *testing.T) {
	s := newSigner(t)
	d := NewDKIM(s.lookup)
	good := s.sign(letter, "operateur.test")
	long := strings.Repeat("X-Long: "+strings.Repeat("y", 500)+"\r\n", 100)
	for _, tc := range []struct {
		name, msg string
		want      []Signature
	}{
		{"none", letter, nil},
		{"good", good, []Signature{{"pass", "operateur.test"}}},
		{"body altered", strings.Replace(good, "bonjour", "bonsoir", 1), []Signature{{"fail", "operateur.test"}}},
		{"From altered", strings.Replace(good, "From: <2", "From: <1", 1), []Signature{{"fail", "operateur.test"}}},
		{"no key", s.sign(letter, "inconnu.test"), []Signature{{"permerror", "inconnu.test"}}},
		{"two", s.sign(s.sign(letter, "operateur.test"), "inconnu.test"), []Signature{{"permerror", "inconnu.test"}, {"pass", "operateur.test"}}},
		{"too many", strings.Repeat("DKIM-Signature: x\r\n", 500) + good, []Signature{{"permerror", ""}, {"permerror", ""}, {"permerror", ""}}},
		{"header too long", strings.Replace(good, "From:", long+"From:", 1), []Signature{{"policy", ""}}},
		{"header too long, unsigned", long + letter, nil},
		{"no body", "DKIM-Signature: v=1\r\n", nil},
		{"domain that is none", strings.Replace(good, "d=operateur.test", "d=x;y", 1), []Signature{{"permerror", ""}}},
		{"empty", "", nil},
	} {
		for _, n := range []int{1, 7, 4096, 1 << 20} {
			if got := signaturesOf(t, d, tc.msg, n); !slices.Equal(got, tc.want) {
				t.Errorf("%s, in pieces of %d: %v, want %v", tc.name, n, got, tc.want)
			}
		}
	}
}

// The result stands in the prefix and the trace; the trace has no domain of a signature.
func TestDKIMIsNoted(t *testing.T) {
	s := newSigner(t)
	d, st, rcpts, _ := open(t, 1)
	sp, err := NewSpool(st, true, Limits{DKIM: NewDKIM(s.lookup)})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(sp, s.sign(letter, "operateur.test")); err != nil {
		t.Fatal(err)
	}
	if err := sp.Finish(); err != nil {
		t.Fatal(err)
	}
	in := testIncoming(t)
	in.Recipients = rcpts
	id, _, err := d.Deliver(t.Context(), sp, in)
	if err != nil {
		t.Fatal(err)
	}
	c, err := st.OpenMessage(rcpts[0].BAL.ID, id)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	b, _ := io.ReadAll(io.NewSectionReader(c, 0, c.Size()))
	if !strings.Contains(strings.ReplaceAll(string(b), "\r\n ", " "), "; dkim=pass header.d=operateur.test\r\n") {
		t.Errorf("the prefix does not tell: %q", b)
	}
	events, err := st.Trace(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	if text := fmt.Sprint(events); !strings.Contains(text, "{dkim pass}") {
		t.Errorf("the trace does not tell: %s", text)
	}
}

// Where the DNS does not answer, a message waits 3 seconds at most, and after three such messages none waits for a
// minute.
func TestDKIMWithoutDNS(t *testing.T) {
	good := newSigner(t).sign(letter, "operateur.test")
	synctest.Test(t, func(t *testing.T) {
		var asked int
		d := NewDKIM(func(ctx context.Context, _ string) ([]string, error) {
			asked++
			<-ctx.Done()
			return nil, ctx.Err()
		})
		want := []Signature{{"temperror", "operateur.test"}}
		for i := range 10 {
			start := time.Now()
			if got := signaturesOf(t, d, good, 100); !slices.Equal(got, want) {
				t.Errorf("message %d: %v", i, got)
			}
			wait := time.Since(start)
			if i < dkimFailures && wait != dkimWait || i >= dkimFailures && wait != 0 {
				t.Errorf("message %d waited %v", i, wait)
			}
		}
		if n := asked; n != dkimFailures {
			t.Errorf("asked %d times, want %d", n, dkimFailures)
		}
		time.Sleep(dkimPause)
		signaturesOf(t, d, good, 100)
		if n := asked; n != dkimFailures+1 {
			t.Errorf("after the pause asked %d times, want %d", n, dkimFailures+1)
		}
	})
}

// A transfer that is given up leaves no goroutine behind, however many signatures it had.
func TestDKIMAborted(t *testing.T) {
	s := newSigner(t)
	msg := s.sign(s.sign(letter, "operateur.test"), "operateur.test")
	before := runtime.NumGoroutine()
	for range 100 {
		tap := dkimTap{d: NewDKIM(s.lookup)}
		tap.write([]byte(msg[:len(msg)-5]))
		tap.abort()
	}
	for end := time.Now().Add(10 * time.Second); runtime.NumGoroutine() > before && time.Now().Before(end); {
		runtime.Gosched()
	}
	if n := runtime.NumGoroutine(); n > before {
		t.Errorf("%d goroutines, %d before", n, before)
	}
}

// No octets make it panic, hang or say "pass" without a key.
func FuzzDKIM(f *testing.F) {
	s := newSigner(f)
	f.Add(s.sign(letter, "operateur.test"))
	f.Add("DKIM-Signature: v=1; a=rsa-sha256; d=x; s=y; h=from:from:from; bh=; b=\r\n\r\n")
	f.Add(letter)
	none := NewDKIM(func(context.Context, string) ([]string, error) { return []string{"v=DKIM1; p="}, nil })
	f.Fuzz(func(t *testing.T, msg string) {
		for _, r := range signaturesOf(t, none, msg, 64) {
			if r.Result == "pass" {
				t.Errorf("pass without a key: %q", msg)
			}
		}
	})
}
