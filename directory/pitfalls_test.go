package directory

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"mssd/directory/slapdtest"
	"mssd/tlsconf/testpki"
)

// TestFeedStuck: while the feed does not take what the server sends, a live question is answered all the same, for it has a
// connection of its own; and nothing of what waited is lost.
func TestFeedStuck(t *testing.T) {
	s := slapdtest.StartWith(t, []slapdtest.Option{slapdtest.Database("dbnosync")})
	m := newMirror(t, LDAPConfig{URL: s.URL})
	m.run()
	const many = 3*syncBuffer + 100
	name := func(i int) string { return fmt.Sprintf("bal%d@test-officines.mssante.fr", i) }
	m.feeds[0].sink.Lock() // as a disk that hangs would hold it
	for i := range many {
		s.AddBAL(name(i), "ORG", "")
	}
	dec := m.Decide(context.Background(), Query{Address: name(many - 1), Kind: "ORG"})
	m.feeds[0].sink.Unlock()
	if dec.Answer != Known || !dec.Live {
		t.Errorf("the live question: %+v", dec)
	}
	m.wait("all changes", func() bool {
		for i := range many {
			if !m.knows(name(i)) {
				return false
			}
		}
		return true
	})
}

// TestReadingCancelled: our own end in the midst of a reading is neither a success nor a fault of the feed.
func TestReadingCancelled(t *testing.T) {
	s := slapdtest.Start(t)
	for _, noSync := range []bool{false, true} {
		m := newMirror(t, LDAPConfig{URL: s.URL, NoSync: noSync})
		m.refresh()
		generation := m.Status().Generation
		s.Freeze()
		ctx, cancel := context.WithCancel(context.Background())
		time.AfterFunc(50*time.Millisecond, cancel)
		if err := m.Refresh(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("sync off %v: got %v", noSync, err)
		}
		s.Thaw()
		if st := m.Status(); st.Generation != generation || st.Feeds[0].LastError != "" || st.Feeds[0].Rows != 25 {
			t.Errorf("sync off %v: %+v", noSync, st)
		}
	}
}

// TestTooManyRows: what a server sends is bounded, however it is read.
func TestTooManyRows(t *testing.T) {
	s := slapdtest.Start(t)
	for _, noSync := range []bool{false, true} {
		m := newMirror(t, LDAPConfig{URL: s.URL, NoSync: noSync, MaxRows: 10})
		if err := m.Refresh(context.Background()); !errors.Is(err, ErrTooLarge) || m.Status().Usable {
			t.Errorf("sync off %v: got %v", noSync, err)
		}
	}
}

// TestLDAPS follows a server over TLS from the first octet; another authority's is not talked to. A
// silent one does not hold StartTLS up.
func TestLDAPS(t *testing.T) {
	pki, err := testpki.New()
	if err != nil {
		t.Fatal(err)
	}
	id, err := pki.Server("127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	path := func(n string) string { return filepath.Join(dir, n) }
	other, err := testpki.New()
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(pki.WriteAnchors(path("ca.pem")), other.WriteAnchors(path("other.pem")), id.WriteFiles(path("s.pem"), path("s.key"))); err != nil {
		t.Fatal(err)
	}
	cert, err := tls.LoadX509KeyPair(path("s.pem"), path("s.key"))
	if err != nil {
		t.Fatal(err)
	}
	s := slapdtest.Start(t)
	ln, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{cert}})
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			in, err := ln.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", s.Addr())
			if err != nil {
				_ = in.Close()
				continue
			}
			all.Go(func() { _, _ = io.Copy(out, in); _ = out.Close() })
			all.Go(func() { _, _ = io.Copy(in, out); _ = in.Close() })
		}
	})
	t.Cleanup(func() { _ = ln.Close(); s.Kill(); all.Wait() })
	l := LDAPConfig{URL: "ldaps://" + ln.Addr().String(), AnchorFiles: []string{path("ca.pem")}}
	m := newMirror(t, l)
	m.run()
	s.AddBAL(newBAL, "ORG", "")
	m.wait("a change over TLS", func() bool { return m.knows(newBAL) })
	m.stop()
	l.AnchorFiles = []string{path("other.pem")}
	if err := newMirror(t, l).Refresh(context.Background()); !errors.Is(err, ErrUnavailable) {
		t.Errorf("another authority: %v", err)
	}
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	l = LDAPConfig{URL: "ldap://" + silent.Addr().String(), StartTLS: true, AnchorFiles: []string{path("ca.pem")}, ConnectTimeout: 100 * time.Millisecond}
	if err := newMirror(t, l).Refresh(context.Background()); !errors.Is(err, ErrUnavailable) {
		t.Errorf("silent at StartTLS: %v", err)
	}
}
