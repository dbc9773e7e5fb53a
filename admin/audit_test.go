package admin

import (
	"context"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"mssd/delivery"
	"mssd/directory/whitelist"
	"mssd/tlsconf"
	"mssd/trace"
)

// auditRow is how one request is asked for, done and refused, and what the trace must say of it.
type auditRow struct {
	path, body string // of a request that succeeds; path "" where this test cannot make one
	act        string // as the trace names it
	bal        bool   // the event names the BAL
	badPath    string // of a request that is refused
	badBody    string
}

const auditBAL = "pharmacie@officines.example"

// auditRows has a row for each request that the socket answers. Whoever adds a route adds a row.
var auditRows = map[string]auditRow{
	"GET /v1/bals":                           {path: "/v1/bals", act: "bal list"},
	"POST /v1/bals":                          {"/v1/bals", `{"address":"` + auditBAL + `","kind":"ORG"}`, "bal add", true, "/v1/bals", `{"address":"x@officines.example"}`},
	"POST /v1/declarations":                  {"/v1/declarations", `{"rows":[]}`, "bal declare", false, "/v1/declarations", `{`},
	"GET /v1/bals/{address}":                 {"/v1/bals/" + auditBAL, "", "bal show", true, "/v1/bals/x@y.example", ""},
	"GET /v1/members":                        {"/v1/members", "", "member export", false, "/v1/members?bal=x@y.example", ""},
	"POST /v1/members":                       {"/v1/members", `{"rows":[]}`, "member import", false, "/v1/members", `{`},
	"POST /v1/bals/{address}/members":        {"/v1/bals/" + auditBAL + "/members", `{"id":"local:anne"}`, "member add", true, "/v1/bals/" + auditBAL + "/members", `{"id":"local:anne"}`},
	"DELETE /v1/bals/{address}/members/{id}": {"/v1/bals/" + auditBAL + "/members/local:anne", "", "member end", true, "/v1/bals/" + auditBAL + "/members/local:x", ""},
	"GET /v1/inactive":                       {"/v1/inactive?days=1", "", "bal inactive", false, "/v1/inactive", ""},
	"POST /v1/inactive/notices":              {"/v1/inactive/notices", `{"days":1}`, "bal inactive, notify", false, "/v1/inactive/notices", `{}`},
	"GET /v1/bals/{address}/history":         {"/v1/bals/" + auditBAL + "/history", "", "bal history", true, "/v1/bals/x@y.example/history", ""},
	"GET /v1/bals/{address}/expunged":        {"/v1/bals/" + auditBAL + "/expunged", "", "bal deleted", true, "/v1/bals/" + auditBAL + "/expunged?after=x", ""},
	"POST /v1/restored/settled":              {act: "bal settled", badPath: "/v1/restored/settled"},
	"PUT /v1/bals/{address}/state":           {"/v1/bals/" + auditBAL + "/state", `{"state":"suspended"}`, "bal suspend", true, "/v1/bals/" + auditBAL + "/state", `{"state":"open"}`},
	"PUT /v1/bals/{address}/listing":         {"/v1/bals/" + auditBAL + "/listing", `{"listing":"unlisted"}`, "bal listing", true, "/v1/bals/" + auditBAL + "/listing", `{}`},
	"POST /v1/bals/{address}/destruction":    {"/v1/bals/" + auditBAL + "/destruction", `{"dry_run":true}`, "bal destroy, dry run", true, "/v1/bals/" + auditBAL + "/destruction", `{}`},
	"POST /v1/bals/{address}/undelete":       {"/v1/bals/" + auditBAL + "/undelete", `{"since":"2026-01-01T00:00:00Z"}`, "bal undelete", true, "/v1/bals/" + auditBAL + "/undelete", `{}`},
	"PUT /v1/bals/{address}/hold":            {"/v1/bals/" + auditBAL + "/hold", `{"reason":"order 7"}`, "bal hold", true, "/v1/bals/" + auditBAL + "/hold", `{}`},
	"DELETE /v1/bals/{address}/hold":         {"/v1/bals/" + auditBAL + "/hold", "", "bal release", true, "/v1/bals/" + auditBAL + "/hold", ""},
	"PUT /v1/bals/{address}/retention":       {"/v1/bals/" + auditBAL + "/retention", `{"mailbox":"Trash","days":9}`, "bal retention", true, "/v1/bals/" + auditBAL + "/retention", `{}`},
	"PUT /v1/bals/{address}/quota":           {"/v1/bals/" + auditBAL + "/quota", `{"octets":9}`, "bal quota", true, "/v1/bals/" + auditBAL + "/quota", `{}`},
	"GET /v1/bals/{address}/mail":            {"/v1/bals/" + auditBAL + "/mail", "", "bal export", true, "/v1/bals/x@y.example/mail", ""},
	"POST /v1/bals/{address}/mail":           {"/v1/bals/" + auditBAL + "/mail", "", "bal import", true, "/v1/bals/x@y.example/mail", ""},
	"POST /v1/sweep":                         {"/v1/sweep", `{}`, "sweep", false, "/v1/sweep", `{`},
	"GET /v1/trace":                          {"/v1/trace?id=0000000000000", "", "trace read", false, "/v1/trace?id=x", ""},
	"GET /v1/publication":                    {path: "/v1/publication", act: "directory publish"},
	"POST /v1/publication/acks":              {"/v1/publication/acks", `{"rows":[]}`, "directory publish, acknowledged", false, "/v1/publication/acks", `{`},
	"GET /v1/directory":                      {path: "/v1/directory", act: "directory status"},
	"POST /v1/directory/accept":              {act: "directory accept", badPath: "/v1/directory/accept", badBody: `{"feed":"x"}`},
	"GET /v1/directory/find":                 {"/v1/directory/find?name=du", "", "directory find", false, "/v1/directory/find?limit=x", ""},
	"GET /v1/directory/audit":                {path: "/v1/directory/audit", act: "directory audit"},
	"GET /v1/health":                         {path: "/v1/health"},
	"GET /v1/certs":                          {path: "/v1/certs", act: "certs"},
	"GET /v1/whitelist":                      {path: "/v1/whitelist", act: "whitelist status"},
	"GET /v1/whitelist/find":                 {act: "whitelist find", badPath: "/v1/whitelist/find?q=x"},
	"POST /v1/whitelist/accept":              {act: "whitelist accept", badPath: "/v1/whitelist/accept", badBody: "<x/>"},
	"POST /v1/whitelist/preview":             {act: "whitelist preview", badPath: "/v1/whitelist/preview", badBody: "<x/>"},
	"GET " + ownerMembers:                    {act: "owner: member list", badPath: "/v1/owner/bals/" + auditBAL + "/members"},
	"POST " + ownerMembers:                   {act: "owner: member add", badPath: "/v1/owner/bals/" + auditBAL + "/members", badBody: "{}"},
	"PUT " + ownerMembers + "/{id}":          {act: "owner: member change", badPath: "/v1/owner/bals/" + auditBAL + "/members/local:x", badBody: "{}"},
	"DELETE " + ownerMembers + "/{id}":       {act: "owner: member end", badPath: "/v1/owner/bals/" + auditBAL + "/members/local:x"},
	"POST /v1/fsck":                          {path: "/v1/fsck", act: "fsck"},
	"POST /v1/reload":                        {path: "/v1/reload", act: "reload"},
	"GET /v1/backups":                        {path: "/v1/backups", act: "backup list"},
	"POST /v1/backups":                       {act: "backup", badPath: "/v1/backups", badBody: "{"},
	"GET /v1/backups/{id}/index":             {act: "backup: copy of the index", badPath: "/v1/backups/x/index"},
	"GET /v1/backups/{id}/keys":              {act: "backup: copy of the keys", badPath: "/v1/backups/x/keys"},
	"POST /v1/backups/{id}/bodies":           {act: "POST /v1/backups/{id}/bodies", badPath: "/v1/backups/x/bodies", badBody: "{}"},
	"POST /v1/backups/{id}/manifest":         {act: "backup: manifest", badPath: "/v1/backups/x/manifest", badBody: "{}"},
	"POST /v1/backups/{id}/done":             {act: "backup: done", badPath: "/v1/backups/x/done"},
	"POST /v1/backups/{id}/alive":            {act: "POST /v1/backups/{id}/alive", badPath: "/v1/backups/x/alive"},
	"POST /v1/backups/{id}/forgotten":        {act: "backup forget", badPath: "/v1/backups/x/forgotten"},
	"/":                                      {act: "a request that is none", badPath: "/v2/x"},
}

// fresh are the events since the last call, without the marks of the store itself.
func (h *house) fresh(t *testing.T, after *uint64) (list []trace.Event) {
	t.Helper()
	events, err := h.store.Trace(context.Background(), 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range events {
		if e.Seq > *after {
			*after = e.Seq
			list = append(list, e)
		}
	}
	return list
}

func (h *house) plain(t *testing.T, method, path, body string) int {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, "http://mssd"+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := h.send(req)
	if p := status(err); p != 0 {
		return p
	}
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode
}

// Each request, refused or done, stands in the trace with who asked, what, of which BAL, and how it ended.
func TestEveryRequestIsTraced(t *testing.T) {
	dir := t.TempDir()
	keeper, err := whitelist.NewKeeper(whitelist.KeeperConfig{File: filepath.Join(dir, "none.xml"), StateDir: dir, NoListYet: true,
		Load: whitelist.Options{Anchors: tlsconf.NewAnchors(), SignerNames: []string{"signataire.test"}}})
	if err != nil {
		t.Fatal(err)
	}
	d, _ := mirror(t, "a@x.test|ORG|1|1||||||||")
	h := open(t, func(s *Server) {
		s.Directory, s.List, s.Partners = d, keeper, whitelist.OpenPartners(dir, nil, nil)
		s.Notices = &delivery.InactivityNotices{Store: s.Store, Hostname: "mx.test"}
	})
	patterns := h.server.routes().patterns
	slices.Sort(patterns)
	for _, p := range patterns {
		if _, ok := auditRows[p]; !ok {
			t.Errorf("%s: no row says how this request is traced", p)
		}
	}
	if len(patterns) != len(auditRows) {
		t.Errorf("%d requests, %d rows", len(patterns), len(auditRows))
	}
	// What comes first makes what the others need.
	for i, p := range []string{"POST /v1/bals", "POST /v1/bals/{address}/members", "PUT /v1/bals/{address}/hold"} {
		at := slices.Index(patterns, p)
		patterns[i], patterns[at] = patterns[at], patterns[i]
	}
	me := Person(uint32(os.Getuid()))
	var after uint64
	for _, p := range patterns {
		row := auditRows[p]
		method, _, named := strings.Cut(p, " ")
		if !named {
			method = "GET"
		}
		if row.path != "" {
			if status := h.plain(t, method, row.path, row.body); status != http.StatusOK {
				t.Errorf("%s: status %d", p, status)
			}
			events := h.fresh(t, &after)
			i := slices.IndexFunc(events, func(e trace.Event) bool { return e.Attr(trace.KeyAct) == row.act && e.Person == me })
			switch {
			case row.act == "" && len(events) > 0 || row.act != "" && i < 0:
				t.Errorf("%s: done, traced as %v, want act %q of %s", p, events, row.act, me)
			case row.bal && events[i].BAL != auditBAL:
				t.Errorf("%s: done, of BAL %q", p, events[i].BAL)
			}
		}
		if row.badPath == "" {
			continue
		}
		status := h.plain(t, method, row.badPath, row.badBody)
		events := h.fresh(t, &after)
		name := routeActs[p]
		if name == "" {
			name = p
		}
		if status < 400 || len(events) != 1 || events[0].Attr(trace.KeyAct) != name || events[0].Person != me ||
			events[0].Attr(trace.KeyCode) == "" || events[0].Attr(trace.KeyReason) == "" {
			t.Errorf("%s: status %d, traced as %v, want one event, act %q", p, status, events, name)
		} else if strings.Contains(row.badPath, auditBAL) != (events[0].BAL == auditBAL) {
			t.Errorf("%s: refused, of BAL %q", p, events[0].BAL)
		}
	}
}

// What is typed in the place of an address may be that of a patient: only addresses of our own BALs are recorded.
func TestNoForeignAddressIsRecorded(t *testing.T) {
	h := open(t)
	const patient = "199010000000001@patient.mssante.fr"
	if _, err := h.BAL(t.Context(), patient); status(err) != http.StatusNotFound {
		t.Fatal(err)
	}
	if _, err := h.AddBAL(t.Context(), NewBAL{Address: patient, Kind: "ORG"}); status(err) != http.StatusBadRequest {
		t.Fatal(err)
	}
	var after uint64
	events := h.fresh(t, &after)
	for _, e := range events {
		if strings.Contains(e.Line(), "199010000000001") {
			t.Errorf("the trace names a patient: %s", e.Line())
		}
	}
	if len(events) != 2 {
		t.Errorf("%d events of two refused requests: %v", len(events), events)
	}
}

// A command that is refused for ever does not fill the trace.
func TestRefusedRequestsAreFolded(t *testing.T) {
	h := open(t)
	for range 3 * trace.FoldAfter {
		if _, err := h.BAL(t.Context(), "x@y.example"); status(err) != http.StatusNotFound {
			t.Fatal(err)
		}
	}
	h.server.refusals.Flush()
	var after uint64
	events := h.fresh(t, &after)
	if len(events) != trace.FoldAfter+1 || events[trace.FoldAfter].Attr(trace.KeyCount) != "120" {
		t.Errorf("%d events, the last %v", len(events), events[len(events)-1])
	}
}
