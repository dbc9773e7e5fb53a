package imapd

import (
	"strings"

	"mssd/auth"
	"mssd/store"
)

// delim separates the levels of mailbox names.
const delim = '/'

// otherPrefix begins the names of every BAL of a session but the first: "BAL/<address>/<mailbox>". With a
// single BAL all names are plain.
const otherPrefix = "BAL/"

// place is what a mailbox name means in a session: a BAL, the right on it, and a name within it.
type place struct {
	grant auth.Grant
	name  string // within the BAL, INBOX in capitals
}

// namespace maps the names that a session uses to the BALs it may open (design.md §7).
type namespace struct {
	grants []auth.Grant // at least one; the first is the personal namespace
}

// resolve finds the BAL of a mailbox name. A name under otherPrefix of a BAL that the session may not open
// is answered like one that does not exist.
func (n namespace) resolve(name string) (place, error) {
	if len(n.grants) > 1 && hasPrefixFold(name, otherPrefix) {
		rest := name[len(otherPrefix):]
		address, inner, found := strings.Cut(rest, string(delim))
		for _, g := range n.grants[1:] {
			if found && inner != "" && strings.EqualFold(address, string(g.BAL.Address)) {
				return place{g, canonical(inner)}, nil
			}
		}
		return place{}, store.ErrNoMailbox
	}
	return place{n.grants[0], canonical(name)}, nil
}

// show is the name that this session uses for a mailbox of the grant with index i.
func (n namespace) show(i int, name string) string {
	if i == 0 {
		return name
	}
	return otherPrefix + string(n.grants[i].BAL.Address) + string(delim) + name
}

// canonical writes INBOX in capitals, which is case-insensitive (RFC 9051, Section 5.1); also as the first
// level of a longer name, where clients disagree and one spelling avoids twins.
func canonical(name string) string {
	if strings.EqualFold(name, "INBOX") {
		return "INBOX"
	}
	if hasPrefixFold(name, "INBOX/") {
		return "INBOX" + name[len("INBOX"):]
	}
	return name
}

func hasPrefixFold(s, prefix string) bool {
	return len(s) >= len(prefix) && strings.EqualFold(s[:len(prefix)], prefix)
}

// mayWrite says whether a role may change anything.
func mayWrite(r store.Role) bool { return r == store.Owner || r == store.Writer }

// box looks a mailbox up by the name the client used.
func (c *conn) box(name string) (store.Mailbox, auth.Grant, error) {
	p, err := c.user.names.resolve(name)
	if err != nil {
		return store.Mailbox{}, auth.Grant{}, err
	}
	if err := c.srv.Auth.Check(c.user.who, p.grant); err != nil {
		return store.Mailbox{}, auth.Grant{}, errRight
	}
	m, err := c.srv.Store.Mailbox(p.grant.BAL.ID, p.name)
	return m, p.grant, err
}

// target is box for an operation that writes.
func (c *conn) target(name string) (store.Mailbox, auth.Grant, error) {
	m, g, err := c.box(name)
	if err == nil && !mayWrite(g.Role) {
		err = errNoRight
	}
	return m, g, err
}

// free is target for a name that need not exist yet.
func (c *conn) free(name string) (place, error) {
	p, err := c.user.names.resolve(name)
	if err != nil {
		return p, err
	}
	if err := c.srv.Auth.Check(c.user.who, p.grant); err != nil {
		return p, errRight
	}
	if !mayWrite(p.grant.Role) {
		return p, errNoRight
	}
	return p, nil
}
