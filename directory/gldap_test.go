package directory_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/jimlambrt/gldap"

	"mssd/directory"
)

// TestServerWithoutPaging has a server that ignores the paging control and sends everything at once, and that asks for
// no login. The demo's directory is of this kind.
func TestServerWithoutPaging(t *testing.T) {
	s, err := gldap.NewServer()
	if err != nil {
		t.Fatal(err)
	}
	mux, err := gldap.NewMux()
	if err != nil {
		t.Fatal(err)
	}
	const rows = 2500
	mail := func(i int) string { return fmt.Sprintf("bal%d@officine.test", i) }
	if err := mux.Search(func(w *gldap.ResponseWriter, r *gldap.Request) {
		done := r.NewSearchDoneResponse(gldap.WithResponseCode(gldap.ResultSuccess))
		defer func() { _ = w.Write(done) }()
		m, err := r.GetSearchMessage()
		if err != nil {
			return
		}
		for i := range rows {
			if strings.Contains(m.Filter, "@") && m.Filter != "(mail="+mail(i)+")" {
				continue
			}
			e := r.NewSearchResponseEntry("mail="+mail(i)+",dc=mssante,dc=fr", gldap.WithAttributes(map[string][]string{
				"mail": {mail(i)}, "TypeBAL": {"ORG"}}))
			if w.Write(e) != nil {
				return
			}
		}
	}); err != nil {
		t.Fatal(err)
	}
	if err := s.Router(mux); err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := ln.Addr().String()
	_ = ln.Close() // gldap only takes an address
	failed := make(chan error, 1)
	go func() { failed <- s.Run(addr) }()
	t.Cleanup(func() { _ = s.Stop() })
	for end := time.Now().Add(10 * time.Second); !s.Ready(); time.Sleep(time.Millisecond) {
		select {
		case err := <-failed:
			t.Fatal(err)
		default:
		}
		if time.Now().After(end) {
			t.Fatal("gldap does not start")
		}
	}
	d := open(t, directory.Config{LDAP: &directory.LDAPConfig{URL: "ldap://" + addr, PageSize: 100}})
	refresh(t, d)
	if got := d.Status().Feeds[0].Rows; got != rows {
		t.Errorf("%d rows, want %d", got, rows)
	}
	if dec := d.Decide(context.Background(), directory.Query{Address: mail(7), Kind: "ORG"}); dec.Answer != directory.Known {
		t.Errorf("known: %+v", dec)
	}
	if dec := d.Decide(context.Background(), directory.Query{Address: "x@officine.test", Kind: "ORG"}); dec.Answer != directory.Unknown || !dec.Live {
		t.Errorf("unknown: %+v", dec)
	}
	_ = d.Close() // Stop waits for the clients to go
	_ = s.Stop()
	if err := d.Refresh(context.Background()); !errors.Is(err, directory.ErrUnavailable) && !errors.Is(err, directory.ErrPartial) {
		t.Errorf("stopped: %v", err)
	}
}
