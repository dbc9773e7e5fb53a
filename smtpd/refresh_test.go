package smtpd

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"mssd/directory/whitelist"
	"mssd/tlsconf"
	"mssd/tlsconf/fetch"
	"mssd/tlsconf/testpki"
)

// place publishes a white list, and counts how often it is asked.
type place struct {
	mu    sync.Mutex
	doc   []byte // nil: 503
	tag   string
	asked atomic.Int64
}

func (p *place) publish(doc []byte, tag string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.doc, p.tag = doc, tag
}

func (p *place) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.asked.Add(1)
	p.mu.Lock()
	defer p.mu.Unlock()
	w.Header().Set("ETag", p.tag)
	switch {
	case p.doc == nil:
		w.WriteHeader(http.StatusServiceUnavailable)
	case r.Header.Get("If-None-Match") == p.tag:
		w.WriteHeader(http.StatusNotModified)
	default:
		w.Write(p.doc)
	}
}

// listOf signs a list that binds the patient platform to its domain, and has other rows.
func (w *world) listOf(made time.Time, more ...whitelist.Binding) []byte {
	w.t.Helper()
	doc, _ := w.signedBy(made, more...)
	return doc
}

func (w *world) signedBy(made time.Time, more ...whitelist.Binding) ([]byte, *testpki.Identity) {
	w.t.Helper()
	signer := must(w.pki.Signer("signataire.test", "liste@mssante.test"))(w.t)
	var b bytes.Buffer
	rows := append([]whitelist.Binding{{Domain: "patient.mssante.test", DN: w.peers["patient"].DN(), Description: "patients"}}, more...)
	check(w.t, whitelist.Make(&b, rows, signer.Cert, signer.Key, made))
	return b.Bytes(), signer
}

// altered is a list with a text of it replaced, signed anew: whitelist.Make makes no row that cannot be read.
func (w *world) altered(doc []byte, signer *testpki.Identity, old, next string) []byte {
	w.t.Helper()
	body, rest, ok := strings.Cut(strings.Replace(string(doc), old, next, 1), "<Signature ")
	if !ok || !strings.Contains(body, next) {
		w.t.Fatalf("no %q in the list", old)
	}
	declaration, root, _ := strings.Cut(body, "<ListeBlancheMSSante ")
	digest := sha256.Sum256([]byte("<ListeBlancheMSSante " + root + "</ListeBlancheMSSante>"))
	rest = regexp.MustCompile(`<DigestValue>[^<]*`).ReplaceAllString(rest, "<DigestValue>"+base64.StdEncoding.EncodeToString(digest[:]))
	info := rest[strings.Index(rest, "<SignedInfo>") : strings.Index(rest, "</SignedInfo>")+len("</SignedInfo>")]
	info = strings.Replace(info, "<SignedInfo>", `<SignedInfo xmlns="http://www.w3.org/2000/09/xmldsig#">`, 1)
	info = regexp.MustCompile(`<(\w+) ([^>]*)/>`).ReplaceAllString(info, "<$1 $2></$1>")
	hash := sha256.Sum256([]byte(info))
	value := must(signer.Key.Sign(rand.Reader, hash[:], crypto.SHA256))(w.t)
	rest = regexp.MustCompile(`<SignatureValue>[^<]*`).ReplaceAllString(rest, "<SignatureValue>"+base64.StdEncoding.EncodeToString(value))
	return []byte(declaration + "<ListeBlancheMSSante " + root + "<Signature " + rest)
}

// Design §2.3: before a domain that is not bound gets a 550, the place of the list is asked once: what it says then decides, and
// when it says nothing the peer is told to come back. Others are asked for nothing, and within a minute nobody is.
func TestNotBoundAsksForTheList(t *testing.T) {
	const domain = "nouveau.test"
	for _, tt := range []struct {
		name          string
		then          func(w *world, p *place)
		first, second string // two connections, one after the other
		null          string // mail without a sender, of a DN that the held list does not know
	}{
		{"the same list still", func(*world, *place) {}, "550 5.7.1", "451 4.7.1", "550 5.7.1"},
		{"a newer list binds it", func(w *world, p *place) {
			p.publish(w.listOf(time.Now().Add(-time.Minute), whitelist.Binding{Domain: domain, DN: w.peers["other"].DN()}), `"2"`)
		}, "250", "250", "250"},
		{"a newer list binds it to others", func(w *world, p *place) {
			p.publish(w.listOf(time.Now().Add(-time.Minute), whitelist.Binding{Domain: domain, DN: w.peers["self"].DN()}), `"2"`)
		}, "550 5.7.1", "451 4.7.1", "550 5.7.1"},
		{"the place is away", func(_ *world, p *place) { p.publish(nil, "") }, "451 4.7.1", "451 4.7.1", "451 4.7.1"},
		{"what it has is no list", func(_ *world, p *place) { p.publish([]byte("<html>Portail captif</html>"), `"x"`) }, "451 4.7.1", "451 4.7.1", "451 4.7.1"},
	} {
		for _, from := range []string{"suivi@" + domain, ""} {
			t.Run(tt.name+"/"+from, func(t *testing.T) {
				p := &place{}
				web := httptest.NewServer(p)
				t.Cleanup(web.Close)
				var clock atomic.Int64 // of the list, against the real one
				clock.Store(int64(-10 * time.Minute))
				w := newWorld(t, nil)
				p.publish(w.listOf(time.Now().Add(-50*time.Minute)), `"1"`)
				anchors := must(tlsconf.LoadAnchors([]string{filepath.Join(w.root, "anchors.pem")}))(t)
				w.srv.List = must(whitelist.NewKeeper(whitelist.KeeperConfig{StateDir: t.TempDir(), NoListYet: true,
					Source: &fetch.Source{URL: web.URL, MaxSize: whitelist.MaxSize},
					Now:    func() time.Time { return time.Now().Add(time.Duration(clock.Load())) },
					Load:   whitelist.Options{Anchors: anchors, SignerNames: []string{"signataire.test"}}}))(t)
				check(t, w.srv.List.Reload(t.Context()))
				p.asked.Store(0)
				clock.Store(0) // ten minutes later
				first, second := tt.first, tt.second
				if from == "" {
					first = tt.null
				}
				good := w.secure("patient")
				good.cmd("MAIL FROM:<"+patient+">", "250")
				if n := p.asked.Load(); n != 0 {
					t.Errorf("the place was asked %d times for a peer that is bound", n)
				}
				tt.then(w, p)
				other := w.secure("other")
				other.cmd("MAIL FROM:<"+from+">", first)
				if n := p.asked.Load(); n != 1 {
					t.Errorf("the place was asked %d times for a peer that is not bound, want once", n)
				}
				if first != "250" {
					other.cmd("MAIL FROM:<"+from+">", first) // proven already, or asked a moment ago
				}
				w.secure("other").cmd("MAIL FROM:<"+from+">", second)
				if n := p.asked.Load(); n != 1 {
					t.Errorf("within a minute the place was asked %d times", n)
				}
			})
		}
	}
}

// A row of the list that cannot be read makes no certain refusal: neither for its domain, nor for a name that may stand in it.
func TestUnreadableRowIsNoRefusal(t *testing.T) {
	for _, header := range []HeaderFrom{NoteFrom, RefuseFrom} {
		w := newWorld(t, func(s *Server) { s.HeaderFrom = header })
		list, signer := w.signedBy(time.Now().Add(-time.Minute), whitelist.Binding{Domain: "douteux.test", DN: "CN=douteux"},
			whitelist.Binding{Domain: "autre.test", DN: w.peers["self"].DN()}, whitelist.Binding{Domain: "officine.test", DN: w.peers["self"].DN()},
			whitelist.Binding{Domain: "bref.test", DN: w.peers["self"].DN()})
		list = w.altered(list, signer, "CN=douteux", "XX=nobody knows this attribute")
		check(t, os.WriteFile(filepath.Join(w.root, "list.xml"), list, 0o600))
		check(t, w.srv.List.Reload(t.Context()))
		p := w.secure("other")
		p.cmd("MAIL FROM:<suivi@douteux.test>", "451 4.7.1")
		p.cmd("MAIL FROM:<>", "451 4.7.1")
		p.cmd("MAIL FROM:<suivi@autre.test>", "550 5.7.1") // this row can be read
		p = w.secure("patient")
		p.cmd("MAIL FROM:<"+patient+">", "250")
		p.cmd("RCPT TO:<"+pharmacy+">", "250")
		p.cmd("DATA", "354")
		p.send(strings.Replace(prescription, "From: <"+patient+">\r\n", "From: <suivi@douteux.test>\r\n", 1) + ".\r\n")
		if header == RefuseFrom {
			p.expect("451 4.7.1")
		} else {
			p.expect("250")
		}
	}
}
