package imapd

import (
	"errors"
	"strings"

	"mssd/auth"
	"mssd/store"
)

// delim separates the levels of mailbox names.
const delim = '/'

// otherPrefix begins the names of every BAL of a session but the first: "Other Users/<address>/<mailbox>", as the examples of
// RFC 2342 do. With a single BAL all names are plain, and none can be given that begins so.
const otherPrefix = "Other Users/"

// place is what a mailbox name means in a session: a BAL, the right on it, and a name within it.
type place struct {
	grant auth.Grant
	name  string // within the BAL, INBOX in capitals
	// taken: the name is one of the first BAL, and looks like one of another BAL. What has it can be read and go, nothing new
	// gets it: the BAL that it seems to mean may be opened tomorrow.
	taken bool
}

// errTaken: a new name that looks like one of another BAL.
var errTaken = no("CANNOT", "Names under Other Users are those of other BALs that you hold, and this is none")

// namespace maps the names that a session uses to the BALs it may open (design.md §7).
type namespace struct {
	grants []auth.Grant // at least one; the first is the personal namespace
}

// resolve finds the BAL of a mailbox name. A name under otherPrefix of a BAL that is not in the session is one of the first BAL,
// where it hardly exists.
func (n namespace) resolve(name string) place {
	if !isOther(name) {
		return place{grant: n.grants[0], name: canonical(name)}
	}
	if len(name) > len(otherPrefix) {
		address, inner, _ := strings.Cut(name[len(otherPrefix):], string(delim))
		for _, g := range n.grants[1:] {
			if inner != "" && strings.EqualFold(address, string(g.BAL.Address)) {
				return place{grant: g, name: canonical(inner)}
			}
		}
	}
	return place{grant: n.grants[0], name: name, taken: true}
}

// isOther says whether a name is otherPrefix without its delimiter, or stands under it.
func isOther(name string) bool {
	top := otherPrefix[:len(otherPrefix)-1]
	return hasPrefixFold(name, top) && (len(name) == len(top) || name[len(top)] == delim)
}

// hidden reports a mailbox of the first BAL whose name means one of another BAL in this session.
func (n namespace) hidden(name string) bool {
	return n.resolve(name).grant.BAL.ID != n.grants[0].BAL.ID
}

// isFirst reports that a BAL is the one whose mailboxes have plain names.
func (n namespace) isFirst(bal store.BALID) bool { return n.grants[0].BAL.ID == bal }

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

// box looks a mailbox up by the name the client used. A name that is there for the mailboxes below it is none.
func (c *conn) box(name string) (store.Mailbox, auth.Grant, error) {
	p := c.user.names.resolve(name)
	if err := c.mayOpen(p.grant); err != nil {
		return store.Mailbox{}, auth.Grant{}, err
	}
	m, err := c.srv.Store.Mailbox(p.grant.BAL.ID, p.name)
	if err == nil && !m.Created {
		err = store.ErrNoMailbox
	}
	return c.ours(m), p.grant, err
}

// mayOpen asks for the right on a BAL. One that has ended ends the session if it is that on the first BAL; any other BAL is as if
// it had never been there.
func (c *conn) mayOpen(g auth.Grant) error {
	err := c.srv.Auth.Check(c.user.who, g)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, auth.ErrSessionOver):
		return err
	case !c.user.names.isFirst(g.BAL.ID):
		return store.ErrNoMailbox
	}
	return errRight
}

// ours leaves out the special use of a mailbox of a BAL that is not the first: a client takes any \Sent for its own, and would
// file letters of one BAL in another (RFC 6154, Section 2: a use may be one for some users only).
func (c *conn) ours(m store.Mailbox) store.Mailbox {
	if !c.user.names.isFirst(m.Ref.BAL) {
		m.SpecialUse = ""
	}
	return m
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
	p := c.user.names.resolve(name)
	if err := c.mayOpen(p.grant); err != nil {
		return p, err
	}
	if !mayWrite(p.grant.Role) {
		return p, errNoRight
	}
	return p, nil
}

// fresh is free for a name that is to be given to something.
func (c *conn) fresh(name string) (place, error) {
	p, err := c.free(name)
	if err == nil && p.taken {
		err = errTaken
	}
	return p, err
}
