package store_test

import (
	"crypto/sha256"
	"fmt"
	"io"
	"strings"

	"mssd/store"
)

// dumpStore writes down all that a client or an operator is promised: BALs, members, subscriptions, mailboxes with their
// numbers, and each message with its UID, flags and octets. Lines that begin with "row" are messages. What rides on a
// later commit (marks of \Recent, confirmations) is not in it.
func dumpStore(s *store.Store) (string, error) {
	var b strings.Builder
	for _, bal := range s.BALs() {
		if bal.State == store.Destroyed { // its records go in the background
			fmt.Fprintf(&b, "destroyed %d %s\n", bal.ID, bal.Address)
			continue
		}
		fmt.Fprintf(&b, "bal %d %s %v %v %v %d messages %d octets, noticed %v, told %v\n", bal.ID, bal.Address, bal.Kind, bal.State, bal.Listing, bal.Messages, bal.Octets,
			bal.Use.Noticed, bal.Told)
		for _, m := range s.Members(bal.ID) {
			fmt.Fprintf(&b, "member %d %s %v %v %v %v %q %q\n", bal.ID, m.ID, m.Role, m.From, m.Until, m.Ended, m.PasswordHash, m.SCRAM)
		}
		subs, err := s.Subscriptions(bal.ID)
		if err != nil {
			return "", err
		}
		fmt.Fprintf(&b, "subscribed %d %q\n", bal.ID, subs)
		notes, err := s.Annotations(store.Ref{BAL: bal.ID}, "local:anne")
		if err != nil {
			return "", err
		}
		fmt.Fprintf(&b, "annotations %d %q\n", bal.ID, notes)
		boxes, err := s.Mailboxes(bal.ID)
		if err != nil {
			return "", err
		}
		gone, err := s.Expunged(ctx, bal.ID, store.ExpungedID{}, 1000)
		if err != nil {
			return "", err
		}
		for _, e := range gone {
			fmt.Fprintf(&b, "expunged %+v\n", e)
		}
		for _, m := range boxes {
			fmt.Fprintf(&b, "mailbox %+v\n", m)
			if err := dumpRows(&b, s, m); err != nil {
				return "", err
			}
		}
	}
	return b.String(), nil
}

func dumpRows(b *strings.Builder, s *store.Store, m store.Mailbox) error {
	if !m.Created {
		return nil
	}
	var all []store.Row
	if err := s.Rows(ctx, m.Ref, []store.Run{{First: 1, Count: ^uint32(0)}}, func(r store.Row) bool { all = append(all, r); return true }); err != nil {
		return err
	}
	for _, r := range all {
		sum, err := contentSum(s, m.BAL, r.Message)
		if err != nil {
			return fmt.Errorf("message %s, UID %d: %w", r.Message, r.UID, err)
		}
		fmt.Fprintf(b, "row %v %+v %q %x\n", m.Ref, r, s.Keywords(r.Keywords), sum)
	}
	ch, err := s.Changes(m.Ref, 1)
	if err != nil {
		return err
	}
	fmt.Fprintf(b, "vanished %v %v\n", m.Ref, ch.Vanished)
	return nil
}

func contentSum(s *store.Store, bal store.BALID, id store.MessageID) (sum [32]byte, err error) {
	c, err := s.OpenMessage(bal, id)
	if err != nil {
		return sum, err
	}
	defer c.Close()
	h := sha256.New()
	_, err = io.Copy(h, io.NewSectionReader(c, 0, c.Size()))
	return [32]byte(h.Sum(nil)), err
}
