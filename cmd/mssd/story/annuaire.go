package story

import (
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/jimlambrt/gldap"
)

// annuaireJSON holds the invented pharmacies and practices.
//
//go:embed annuaire.json
var annuaireJSON []byte

// BaseDN is where the entries stand.
const BaseDN = "ou=bal,dc=mssante,dc=fr"

// Entry is one BAL as the directory shows it: attribute → value.
type Entry map[string]string

// Entries are the invented BALs of the demo's directory.
func Entries() ([]Entry, error) {
	var list []Entry
	if err := json.Unmarshal(annuaireJSON, &list); err != nil {
		return nil, fmt.Errorf("annuaire.json: %w", err)
	}
	return list, nil
}

// PharmacyEntry is the directory's entry of one more pharmacy.
func PharmacyEntry(address, finess, name string) Entry {
	return Entry{"mail": address, "TypeBAL": "ORG", "TypeIdentifiantPM": "FINESS", "IdentifiantPM": finess, "o": name,
		"description": "BAL officine", "postalCode": "99101", "l": "VALCLAIR", "st": "99", "dematerialisation": "O"}
}

// Annuaire is a small LDAP server on a loopback port.
type Annuaire struct {
	Addr    string
	entries []Entry
	server  *gldap.Server
	done    chan error
}

// StartAnnuaire serves entries until Stop.
func StartAnnuaire(entries []Entry) (*Annuaire, error) {
	slices.SortFunc(entries, func(a, b Entry) int { return strings.Compare(a["mail"], b["mail"]) })
	a := &Annuaire{entries: entries}
	// The library wants a port number: a free one is looked for, and another if somebody was faster.
	var err error
	for range 5 {
		if err = a.start(); err == nil {
			return a, nil
		}
	}
	return nil, fmt.Errorf("LDAP server of the demo: %w", err)
}

func (a *Annuaire) start() error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	a.Addr = l.Addr().String()
	l.Close()
	if a.server, err = gldap.NewServer(gldap.WithLogger(hclog.NewNullLogger())); err != nil {
		return err
	}
	mux, err := gldap.NewMux()
	if err != nil {
		return err
	}
	if err := errors.Join(mux.Bind(bind), mux.Search(a.search), a.server.Router(mux)); err != nil {
		return err
	}
	a.done = make(chan error, 1)
	go func() { a.done <- a.server.Run(a.Addr) }()
	for {
		select {
		case err := <-a.done:
			return fmt.Errorf("%s: %w", a.Addr, err)
		case <-time.After(2 * time.Millisecond):
		}
		if a.server.Ready() {
			return nil
		}
	}
}

// Stop ends the server.
func (a *Annuaire) Stop() {
	_ = a.server.Stop()
	<-a.done
}

// bind lets everybody read, as the demo needs.
func bind(w *gldap.ResponseWriter, r *gldap.Request) {
	_ = w.Write(r.NewBindResponse(gldap.WithResponseCode(gldap.ResultSuccess)))
}

// search answers by mail address, or with everything; in pages where that was asked for (RFC 2696).
func (a *Annuaire) search(w *gldap.ResponseWriter, r *gldap.Request) {
	done := r.NewSearchDoneResponse(gldap.WithResponseCode(gldap.ResultSuccess))
	defer func() { _ = w.Write(done) }()
	m, err := r.GetSearchMessage()
	if err != nil {
		done.SetResultCode(gldap.ResultProtocolError)
		return
	}
	if m.Scope == gldap.BaseObject {
		return // of the root DSE nothing is told
	}
	found := a.matching(m.Filter)
	var page *gldap.ControlPaging
	for _, c := range m.Controls {
		if p, ok := c.(*gldap.ControlPaging); ok {
			page = p
		}
	}
	if page != nil {
		from, _ := strconv.Atoi(string(page.Cookie)) // an empty cookie is the first page
		from = min(max(from, 0), len(found))
		to := min(from+int(max(page.PagingSize, 1)), len(found))
		next := &gldap.ControlPaging{}
		if to < len(found) {
			next.SetCookie([]byte(strconv.Itoa(to)))
		}
		done.SetControls(next)
		found = found[from:to]
	}
	for _, e := range found {
		attrs := map[string][]string{"objectClass": {"balMSSante"}}
		for k, v := range e {
			attrs[k] = []string{v}
		}
		_ = w.Write(r.NewSearchResponseEntry("mail="+e["mail"]+","+BaseDN, gldap.WithAttributes(attrs)))
	}
}

// matching takes the filters that a mirror sends: by address ("(mail=…)", alone or inside others), or all.
func (a *Annuaire) matching(filter string) []Entry {
	_, rest, ok := strings.Cut(strings.ToLower(filter), "(mail=")
	want, _, _ := strings.Cut(rest, ")")
	if !ok || want == "*" {
		return a.entries
	}
	var found []Entry
	for _, e := range a.entries {
		if strings.EqualFold(e["mail"], want) {
			found = append(found, e)
		}
	}
	return found
}
