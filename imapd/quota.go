package imapd

import (
	"strings"

	"mssd/auth"
	"mssd/imapd/wire"
	"mssd/store"
)

// GETQUOTA: RFC 9208, Section 4.1.1. Each BAL is a quota root, named by its address.
func (c *conn) cmdGetQuota(cmd *wire.Command) (response, error) {
	root, err := wire.ParseQuotaRoot(cmd)
	if err != nil {
		return response{}, err
	}
	for _, g := range c.user.who.Grants {
		if !strings.EqualFold(root, string(g.BAL.Address)) || c.srv.Auth.Check(c.user.who, g) != nil {
			continue
		}
		if err := c.quotaLine(g); err != nil {
			return response{}, err
		}
		return okay("GETQUOTA completed"), nil
	}
	return response{}, no("NONEXISTENT", "No such quota root")
}

// GETQUOTAROOT: RFC 9208, Section 4.1.2.
func (c *conn) cmdGetQuotaRoot(cmd *wire.Command) (response, error) {
	name, err := wire.ParseMailbox(cmd)
	if err != nil {
		return response{}, err
	}
	_, g, err := c.box(name)
	if err != nil {
		return response{}, err
	}
	c.out.add(func(b []byte) []byte {
		b = wire.AppendMailbox(append(b, "* QUOTAROOT "...), name, c.inUTF8())
		return append(wire.AppendAString(append(b, ' '), string(g.BAL.Address)), "\r\n"...)
	})
	if err := c.quotaLine(g); err != nil {
		return response{}, err
	}
	return okay("GETQUOTAROOT completed"), nil
}

// quotaLine tells what a BAL holds and may hold: octets by 1024, rounded up, and messages. A resource without a limit
// is not in it (RFC 9208, Section 4.2.1).
func (c *conn) quotaLine(g auth.Grant) error {
	bal, err := c.srv.Store.BALByID(g.BAL.ID)
	if err != nil {
		return err
	}
	var list []string
	if bal.QuotaOctets > 0 {
		list = append(list, "STORAGE "+itoa(kib(bal.Octets))+" "+itoa(kib(bal.QuotaOctets)))
	}
	if bal.QuotaMessages > 0 {
		list = append(list, "MESSAGE "+itoa(bal.Messages)+" "+itoa(bal.QuotaMessages))
	}
	c.out.add(func(b []byte) []byte {
		b = wire.AppendAString(append(b, "* QUOTA "...), string(bal.Address))
		return append(append(append(b, " ("...), strings.Join(list, " ")...), ")\r\n"...)
	})
	return nil
}

func kib(octets int64) int64 { return (octets + 1023) / 1024 }

// deletedOctets is what EXPUNGE would give back (RFC 9208, Section 4.1.4). Only this STATUS item looks at messages, and
// at none where none is \Deleted.
func (c *conn) deletedOctets(m store.Mailbox) (octets int64) {
	left := m.Deleted
	if left == 0 {
		return 0
	}
	err := c.srv.Store.Rows(c.ctx, m.Ref, []store.Run{{First: 1, Count: ^uint32(0)}}, func(r store.Row) bool {
		if r.Flags&store.Deleted != 0 {
			octets += r.Size
			left--
		}
		return left > 0
	})
	if err != nil {
		c.log.Error("deleted messages cannot be counted", "mailbox", uint32(m.Mailbox), "err", err)
	}
	return octets
}
