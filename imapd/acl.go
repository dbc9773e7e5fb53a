package imapd

import (
	"mssd/auth"
	"mssd/imapd/wire"
	"mssd/store"
)

// rightsOf is what a role is in the letters of RFC 4314, Section 2.1. Posting to a mailbox ("p") is a matter of SMTP. Where others
// stand for them, Section 2.1.1 wants "c" and "d" too: clients of RFC 2086 look for these.
func rightsOf(r store.Role) string {
	switch r {
	case store.Owner:
		return "lrswitekxacd"
	case store.Writer:
		return "lrswitekxcd"
	case store.Reader:
		return "lr"
	}
	return ""
}

// errMembers: who may do what is the affair of the operator, who writes it into the record of the BAL.
var errMembers = no("CANNOT", "The members of a BAL are managed by its operator")

// MYRIGHTS: RFC 4314, Section 3.5.
func (c *conn) cmdMyRights(cmd *wire.Command) (response, error) {
	a, err := wire.ParseRights(cmd)
	if err != nil {
		return response{}, err
	}
	_, g, err := c.box(a.Mailbox)
	if err != nil {
		return response{}, err
	}
	c.myRightsLine(a.Mailbox, g)
	return okay("MYRIGHTS completed"), nil
}

func (c *conn) myRightsLine(name string, g auth.Grant) {
	c.out.add(func(b []byte) []byte {
		b = wire.AppendMailbox(append(b, "* MYRIGHTS "...), name, c.inUTF8())
		return append(append(append(b, ' '), rightsOf(g.Role)...), "\r\n"...)
	})
}

// administered is a mailbox on which this person has the right "a" (RFC 4314, Section 4).
func (c *conn) administered(name string) (auth.Grant, error) {
	_, g, err := c.box(name)
	if err == nil && g.Role != store.Owner {
		err = errNoRight
	}
	return g, err
}

// GETACL: RFC 4314, Section 3.3. Rights are those on the BAL, the same for each of its mailboxes.
func (c *conn) cmdGetACL(cmd *wire.Command) (response, error) {
	a, err := wire.ParseRights(cmd)
	if err != nil {
		return response{}, err
	}
	g, err := c.administered(a.Mailbox)
	if err != nil {
		return response{}, err
	}
	now := c.srv.Now()
	c.out.add(func(b []byte) []byte {
		b = wire.AppendMailbox(append(b, "* ACL "...), a.Mailbox, c.inUTF8())
		for _, m := range c.srv.Store.Members(g.BAL.ID) {
			if m.Active(now) {
				b = wire.AppendAString(append(b, ' '), m.ID)
				b = append(append(b, ' '), rightsOf(m.Role)...)
			}
		}
		return append(b, "\r\n"...)
	})
	return okay("GETACL completed"), nil
}

// LISTRIGHTS: RFC 4314, Section 3.4. The rights of a role come together.
func (c *conn) cmdListRights(cmd *wire.Command) (response, error) {
	a, err := wire.ParseRights(cmd)
	if err != nil {
		return response{}, err
	}
	if _, err := c.administered(a.Mailbox); err != nil {
		return response{}, err
	}
	c.out.add(func(b []byte) []byte {
		b = wire.AppendMailbox(append(b, "* LISTRIGHTS "...), a.Mailbox, c.inUTF8())
		b = wire.AppendAString(append(b, ' '), a.Identifier)
		return append(b, ` "" lr switekxcd a`+"\r\n"...)
	})
	return okay("LISTRIGHTS completed"), nil
}

// SETACL and DELETEACL: RFC 4314, Sections 3.1 and 3.2.
func (c *conn) cmdSetACL(cmd *wire.Command) (response, error) {
	a, err := wire.ParseRights(cmd)
	if err != nil {
		return response{}, err
	}
	if _, err := c.administered(a.Mailbox); err != nil {
		return response{}, err
	}
	return response{}, errMembers
}
