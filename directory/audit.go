package directory

import (
	"bytes"
	"cmp"
	"slices"
	"strings"
)

// Own is a BAL of ours, as an audit wants to know it.
type Own struct {
	Address   string
	Kind      string
	Structure string
	Listing   string
	Open      bool // it takes mail: it should stand in the directory if it is published
}

// What an audit finds.
const (
	AuditMissing   = "missing"         // published, and not in the directory
	AuditType      = "other type"      // there, with another type of BAL
	AuditStructure = "other structure" // there, with another structure
	AuditPublished = "published"       // there, although it should not be
	AuditNotOpen   = "not open"        // there, although it takes no mail here
	AuditNotHeld   = "not held"        // at a domain of ours, and no BAL of ours
	AuditUnlisted  = "unlisted"        // not there, as meant: nobody finds it
	AuditNotKnown  = "cannot tell"     // no feed can say
)

// maxFindings bounds each kind of finding.
const maxFindings = 10_000

// Finding is one thing that an audit found.
type Finding struct {
	What      string   `json:"what"`
	Address   string   `json:"address"`
	Kind      string   `json:"kind,omitempty"`      // ours
	Structure string   `json:"structure,omitempty"` // ours
	Listing   string   `json:"listing,omitempty"`   // ours
	Note      string   `json:"note,omitempty"`
	Directory []string `json:"directory,omitempty"` // what stands there: "ORG FINESS:990000119"
	Feeds     []string `json:"feeds,omitempty"`     // that say so
}

// Problem reports whether somebody should act on it.
func (f Finding) Problem() bool { return f.What != AuditUnlisted && f.What != AuditNotKnown }

// Audit compares our BALs with the directory.
type Audit struct {
	BALs     int       `json:"bals"`     // of ours that were looked up
	Agree    int       `json:"agree"`    // of these, in the directory as we know them
	Problems int       `json:"problems"` // findings that somebody should act on
	Findings []Finding `json:"findings"`
	Cut      bool      `json:"cut,omitempty"` // there are more of some kind than are listed
	Status   Status    `json:"directory"`     // that this rests on
}

// Audit compares our BALs with what the feeds say, and looks for entries of our domains that we do not hold. No live
// question is asked.
func (d *Directory) Audit(ours []Own) Audit {
	a := Audit{Findings: []Finding{}, Status: d.Status()}
	held := make(map[string]bool, len(ours))
	domains := map[string]bool{}
	count := map[string]int{}
	add := func(f Finding) {
		if count[f.What]++; count[f.What] > maxFindings {
			a.Cut = true
		} else {
			a.Findings = append(a.Findings, f)
		}
		if f.Problem() {
			a.Problems++
		}
	}
	for _, o := range ours {
		addr := string(appendLower(nil, o.Address))
		held[addr] = true
		domains[addr[strings.LastIndexByte(addr, '@')+1:]] = true
		if f, agrees := d.audit(o, &a); !agrees {
			add(f)
		}
	}
	for _, f := range d.strangers(domains, held) {
		add(f)
	}
	slices.SortStableFunc(a.Findings, func(x, y Finding) int {
		return cmp.Or(cmp.Compare(auditOrder(x.What), auditOrder(y.What)), strings.Compare(x.Address, y.Address))
	})
	return a
}

func auditOrder(what string) int {
	return slices.Index([]string{AuditMissing, AuditType, AuditStructure, AuditPublished, AuditNotOpen, AuditNotHeld, AuditUnlisted, AuditNotKnown}, what)
}

// audit looks one BAL of ours up; agrees: there is nothing to tell.
func (d *Directory) audit(o Own, a *Audit) (f Finding, agrees bool) {
	f = Finding{Address: o.Address, Kind: o.Kind, Structure: o.Structure, Listing: o.Listing}
	dec := d.fromImage(&Query{Address: o.Address, Kind: o.Kind, Structure: o.Structure, Listing: o.Listing})
	known := dec.Answer == Known || dec.Answer == KnownOther
	if known {
		f.Directory, f.Feeds = d.holders(o.Address)
	}
	if !o.Open {
		f.What = AuditNotOpen
		return f, !known
	}
	a.BALs++
	unlisted := strings.EqualFold(o.Listing, "unlisted")
	switch {
	case known && unlisted:
		f.What = AuditPublished
	case dec.Answer == Known:
		a.Agree++
		return f, true
	case dec.Answer == KnownOther && dec.Note == noteType:
		f.What = AuditType
	case dec.Answer == KnownOther:
		f.What = AuditStructure
	case unlisted:
		f.What = AuditUnlisted
		if strings.EqualFold(o.Kind, "ORG") {
			f.Note = "patients can write first to a published ORG BAL only"
		}
	case dec.Answer == Unknown:
		f.What = AuditMissing
	default:
		f.What, f.Note = AuditNotKnown, dec.Note
	}
	return f, false
}

// holders says in words what the live feeds have under an address.
func (d *Directory) holders(address string) (rows, feeds []string) {
	now := d.cfg.Now()
	for _, f := range d.feeds {
		img := f.image.Load()
		if img == nil || img.age(now) > d.cfg.CannotTellAfter {
			continue
		}
		found := img.appendEntries(nil, address)
		for _, e := range found {
			if s := e.holder(); !slices.Contains(rows, s) {
				rows = append(rows, s)
			}
		}
		if len(found) > 0 {
			feeds = append(feeds, f.name)
		}
	}
	return rows, feeds
}

func (e Entry) holder() string {
	s := clean([]byte(e.Kind))
	if e.StructureID != "" {
		s += " " + clean([]byte(strings.TrimPrefix(e.StructureType+":"+e.StructureID, ":")))
	}
	return s
}

// strangers are the entries of our domains that are no BALs of ours, each address once.
func (d *Directory) strangers(domains, held map[string]bool) []Finding {
	now := d.cfg.Now()
	seen := map[string]bool{}
	var out []Finding
	for _, f := range d.feeds {
		img := f.image.Load()
		if img == nil || img.age(now) > d.cfg.CannotTellAfter {
			continue
		}
		img.all(func(addr []byte, _ string, _ row) {
			if !domains[string(addr[bytes.LastIndexByte(addr, '@')+1:])] || held[string(addr)] || seen[string(addr)] || len(out) > maxFindings {
				return
			}
			seen[string(addr)] = true
			rows, feeds := d.holders(string(addr))
			out = append(out, Finding{What: AuditNotHeld, Address: clean(addr), Directory: rows, Feeds: feeds})
		})
	}
	return out
}
