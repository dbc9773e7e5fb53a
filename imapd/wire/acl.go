package wire

import "strings"

// ParseCreate reads the arguments of CREATE (RFC 9051, Section 6.3.4; RFC 6154, Section 3).
func ParseCreate(c *Command) (Create, error) {
	l := c.lexer()
	name, err := l.mailbox()
	if err != nil {
		return Create{}, err
	}
	a := Create{Mailbox: name}
	if l.take(' ') {
		if err = l.list(func() error { return l.createParam(&a) }); err != nil {
			return Create{}, err
		}
		if len(a.Uses) == 0 {
			return Create{}, bad("Empty list of parameters")
		}
	}
	return a, l.end()
}

func (l *lexer) createParam(a *Create) error {
	if a.Uses != nil || !l.takeWord("USE") {
		return bad("Unknown CREATE parameter")
	}
	if err := l.space(); err != nil {
		return err
	}
	return l.list(func() error {
		if !l.take('\\') {
			return bad("Malformed special use")
		}
		s, err := l.atom()
		a.Uses = append(a.Uses, `\`+s)
		return err
	})
}

// ParseRights reads the arguments of MYRIGHTS, GETACL, LISTRIGHTS, SETACL and DELETEACL (RFC 4314, Section 3).
func ParseRights(c *Command) (Rights, error) {
	l := c.lexer()
	var a Rights
	var err error
	if a.Mailbox, err = l.mailbox(); err != nil {
		return Rights{}, err
	}
	more := []*string{}
	switch c.Name {
	case "LISTRIGHTS", "DELETEACL":
		more = []*string{&a.Identifier}
	case "SETACL":
		more = []*string{&a.Identifier, &a.Rights}
	}
	for _, p := range more {
		if err = l.space(); err != nil {
			return Rights{}, err
		}
		if *p, err = l.text(); err != nil {
			return Rights{}, err
		}
	}
	// RFC 4314, Sections 3 and 3.1: no identifier, and a right that is not known, are BAD.
	if len(more) > 0 && a.Identifier == "" {
		return Rights{}, bad("Identifier missing")
	}
	rights := a.Rights
	if rights != "" && (rights[0] == '+' || rights[0] == '-') {
		rights = rights[1:]
	}
	if strings.Trim(rights, "lrswipkxteacd") != "" {
		return Rights{}, bad("Unknown right")
	}
	return a, l.end()
}

// ParseQuotaRoot reads the argument of GETQUOTA (RFC 9208, Section 4.1.1).
func ParseQuotaRoot(c *Command) (string, error) {
	l := c.lexer()
	root, err := l.text()
	if err == nil {
		err = l.end()
	}
	return root, err
}
