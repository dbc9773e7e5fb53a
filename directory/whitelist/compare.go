package whitelist

import (
	"maps"
	"slices"
	"strings"

	"mssd/tlsconf"
)

// Entry is one domain with the names it is bound to, as the list prints them.
type Entry struct {
	Domain string   `json:"domain"`
	DNs    []string `json:"dns"`
}

// maxFound bounds what Find yields.
const maxFound = 1000

// Find yields the domains that have q in their name, or in a DN they are bound to, without regard to case, by domain; at
// most 1,000. A q that is a whole DN finds it however it is printed.
func (l *List) Find(q string) []Entry {
	whole, err := tlsconf.ParseDN(q)
	if err != nil {
		whole = tlsconf.DN{}
	}
	q = strings.ToLower(strings.TrimSpace(q))
	var found []Entry
	for _, name := range slices.Sorted(maps.Keys(l.domains)) {
		d := l.domains[name]
		match := strings.Contains(name, q) || slices.ContainsFunc(d.dns, func(dn tlsconf.DN) bool {
			return !whole.IsZero() && dn.Equal(whole) || strings.Contains(strings.ToLower(dn.String()), q)
		})
		if match {
			if found = append(found, Entry{name, texts(d.dns)}); len(found) == maxFound {
				break
			}
		}
	}
	return found
}

func texts(dns []tlsconf.DN) []string {
	out := make([]string, len(dns))
	for i, dn := range dns {
		out[i] = dn.String()
	}
	slices.Sort(out)
	return out
}

// Change is what another list does to one domain; in an added one Before is empty, in one that is gone After.
type Change struct {
	Domain        string
	Before, After []string // DNs, printed
}

// Compare yields the domains that are not the same in next, by name. Two prints of one DN are the same.
func (l *List) Compare(next *List) []Change {
	names := maps.Clone(l.domains)
	maps.Copy(names, next.domains)
	var out []Change
	for _, name := range slices.Sorted(maps.Keys(names)) {
		was, is := l.domains[name].names(), next.domains[name].names()
		if !sameDNs(was, is) {
			out = append(out, Change{name, texts(was), texts(is)})
		}
	}
	return out
}

func (d *domain) names() []tlsconf.DN {
	if d == nil {
		return nil
	}
	return d.dns
}

func sameDNs(a, b []tlsconf.DN) bool {
	within := func(x, y []tlsconf.DN) bool {
		for _, dn := range x {
			if !slices.ContainsFunc(y, dn.Equal) {
				return false
			}
		}
		return true
	}
	return (a == nil) == (b == nil) && within(a, b) && within(b, a)
}
