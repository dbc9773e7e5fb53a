package wire

import (
	"slices"
	"strings"
)

// ParseMailbox reads the argument of DELETE, SUBSCRIBE, UNSUBSCRIBE and GETQUOTAROOT: a mailbox name,
// given back in UTF-8, INBOX in capitals.
func ParseMailbox(c *Command) (string, error) {
	l := c.lexer()
	name, err := l.mailbox()
	if err == nil {
		err = l.end()
	}
	return name, err
}

// ParseTwoMailboxes reads the arguments of RENAME.
func ParseTwoMailboxes(c *Command) (from, to string, err error) {
	l := c.lexer()
	if from, err = l.mailbox(); err != nil {
		return "", "", err
	}
	if err = l.space(); err != nil {
		return "", "", err
	}
	if to, err = l.mailbox(); err != nil {
		return "", "", err
	}
	return from, to, l.end()
}

// ParseSelect reads the arguments of SELECT and EXAMINE (RFC 9051, Section 6.3.2; parameters: RFC 4466).
func ParseSelect(c *Command) (Select, error) {
	l := c.lexer()
	name, err := l.mailbox()
	if err != nil {
		return Select{}, err
	}
	s := Select{Mailbox: name}
	if l.take(' ') {
		err = l.list(func() (err error) {
			switch {
			case l.takeWord("CONDSTORE"):
				s.CondStore = true
			case s.QResync == nil && l.takeWord("QRESYNC"):
				s.QResync, err = l.qresync()
			default:
				err = bad("Unknown SELECT parameter")
			}
			return err
		})
		if err == nil && !s.CondStore && s.QResync == nil {
			err = bad("Empty list of parameters")
		}
		if err != nil {
			return Select{}, err
		}
	}
	return s, l.end()
}

// ParseStatus reads the arguments of STATUS (RFC 9051, Section 6.3.11).
func ParseStatus(c *Command) (Status, error) {
	l := c.lexer()
	name, err := l.mailbox()
	if err != nil {
		return Status{}, err
	}
	if err = l.space(); err != nil {
		return Status{}, err
	}
	items, err := l.statusItems()
	if err != nil {
		return Status{}, err
	}
	return Status{Mailbox: name, Items: items}, l.end()
}

func (l *lexer) statusItems() ([]StatusItem, error) {
	var items []StatusItem
	err := l.list(func() error {
		w, err := l.word()
		if err != nil {
			return err
		}
		item := StatusItem(w)
		switch item {
		case StatusMessages, StatusRecent, StatusUIDNext, StatusUIDValidity, StatusUnseen, StatusDeleted, StatusSize,
			StatusHighestModSeq, StatusAppendLimit, StatusMailboxID, StatusDeletedStorage:
		default:
			return bad("Unknown STATUS item")
		}
		if !slices.Contains(items, item) {
			items = append(items, item)
		}
		return nil
	})
	if err == nil && len(items) == 0 {
		err = bad("STATUS item missing")
	}
	return items, err
}

// ParseAppend reads the arguments of APPEND, REPLACE and UID REPLACE but for the message, which is in c.Literal
// (RFC 9051, Section 6.3.12; RFC 8508, Section 3.3).
func ParseAppend(c *Command) (Append, error) {
	if c.Literal == nil {
		return Append{}, bad("Message literal missing")
	}
	return parseAppend(c)
}

// parseAppend reads what stands before the message: [number SP] mailbox and its options.
func parseAppend(c *Command) (Append, error) {
	l := c.lexer()
	var a Append
	var err error
	if strings.HasSuffix(c.Name, "REPLACE") {
		n, err := l.setNumber()
		if err == nil {
			err = l.space()
		}
		if err != nil {
			return Append{}, err
		}
		a.Replace.Ranges = []Range{{n, n}}
	}
	if a.Mailbox, err = l.mailbox(); err != nil {
		return Append{}, err
	}
	if err = l.appendOptions(&a); err != nil {
		return Append{}, err
	}
	return a, nil
}

// appendOptions reads what stands before each message: SP [flags SP] [date SP] ["UTF8" SP "("]. The last is what RFC 6855,
// Section 4 asks of a client that sends a header in UTF-8; RFC 9755 asks for it no longer, and clients still send it.
func (l *lexer) appendOptions(a *Append) (err error) {
	if err = l.space(); err != nil {
		return err
	}
	if l.peek('(') {
		if a.Flags, err = l.flagList(); err != nil {
			return err
		}
		if err = l.space(); err != nil {
			return err
		}
	}
	if l.peek('"') {
		s, err := l.quoted()
		if err != nil {
			return err
		}
		var ok bool
		if a.Date, ok = parseDateTime(s); !ok {
			return bad("Malformed date")
		}
		if err = l.space(); err != nil {
			return err
		}
	}
	if l.takeWord("UTF8") {
		a.UTF8 = true
		if err = l.space(); err == nil {
			err = l.need('(')
		}
		if err != nil {
			return err
		}
	}
	return l.end()
}
