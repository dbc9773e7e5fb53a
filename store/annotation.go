package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

	bolt "go.etcd.io/bbolt"
)

// Annotations are short texts that clients hang on a mailbox, or on a whole BAL: a colour, a comment (RFC 5464). Each belongs to
// one person, or to all members. They stand outside of counts and quotas, under bounds of their own.

// Annotation is one of them.
type Annotation struct {
	Person string // id of the member whose own it is; "": of all members
	Entry  string // path in lower case, as "/comment"
	Value  string // octets
}

// PutAnnotation sets an annotation, or takes it away.
type PutAnnotation struct {
	Ref    Ref // Mailbox 0: the BAL
	Remove bool
	Annotation
}

func (PutAnnotation) isOp() {}

// Bounds of annotations. What is over them is refused: ErrTooLong, ErrTooMany.
const (
	MaxAnnotation      = 4096    // octets of a value
	maxEntry           = 255     // octets of the path
	maxAnnotations     = 200     // of a mailbox, of all persons
	maxBALAnnotations  = 2000    // of a BAL
	maxBALAnnotOctets  = 1 << 20 // of the records of a BAL
	maxOwnHere         = 50      // of one person in a mailbox
	maxOwn             = 500     // of one person in a BAL
	maxOwnOctets       = 256 << 10
	annotationKeyLen   = 24
	maxAnnotationValue = MaxAnnotation + maxText + maxEntry + 16 + sealedMore
)

// keyAnnotation hides person and path under a key of the BAL.
func keyAnnotation(r Ref, names *secret, a *Annotation) []byte {
	return append(appendRef(make([]byte, 0, annotationKeyLen), r), shortMAC(names, "annotation", a.Person+"\x00"+a.Entry)...)
}

func encodeAnnotation(a *Annotation) []byte {
	return appendString(appendString(appendString(nil, a.Person), a.Entry), a.Value)
}

// openAnnotation reads a record and looks whether it is at its place.
func (k *keyring) openAnnotation(key, v []byte) (a Annotation, err error) {
	if !keyIs(key, annotationKeyLen) || len(v) > maxAnnotationValue {
		return a, corrupt("record of an annotation")
	}
	b, err := k.bal(balOfKey(key))
	if err != nil {
		return a, err
	}
	plain, err := openValue(nil, b.values(), string(bucketNames[bktAnnotation]), key, v)
	if err != nil {
		return a, err
	}
	d := dec{b: plain}
	a = Annotation{Person: d.str(maxText), Entry: d.str(maxEntry), Value: d.str(MaxAnnotation)}
	if err := d.done("annotation"); err != nil {
		return a, err
	}
	names := b.names()
	if a.check() != nil || !bytes.Equal(keyAnnotation(refOfKey(key), &names, &a), key) {
		return a, corrupt("annotation at a wrong place")
	}
	return a, nil
}

// check refuses what can be no annotation (RFC 5464, Section 3.1).
func (a *Annotation) check() error {
	switch {
	case len(a.Value) > MaxAnnotation:
		return fmt.Errorf("%w: %d octets of an annotation, at most %d", ErrTooLong, len(a.Value), MaxAnnotation)
	case len(a.Person) > maxText || !plain(a.Person):
		return fmt.Errorf("%w: person of an annotation", ErrInvalid)
	case len(a.Entry) > maxEntry || len(a.Entry) < 2 || a.Entry[0] != '/' || strings.HasSuffix(a.Entry, "/") || strings.Contains(a.Entry, "//") ||
		strings.ContainsFunc(a.Entry, func(r rune) bool { return r < ' ' || r > '~' || r == '*' || r == '%' || r >= 'A' && r <= 'Z' }):
		return fmt.Errorf("%w: path of an annotation", ErrInvalid)
	}
	return nil
}

func (a *apply) putAnnotation(op PutAnnotation) error {
	if err := op.check(); err != nil {
		return err
	}
	if _, err := a.bal(op.Ref.BAL); err != nil {
		return err
	}
	if op.Ref.Mailbox != 0 {
		if _, err := a.box(op.Ref); err != nil {
			return err
		}
	}
	key, err := a.s.keys.bal(op.Ref.BAL)
	if err != nil {
		return err
	}
	names := key.names()
	k := keyAnnotation(op.Ref, &names, &op.Annotation)
	a.notes = append(a.notes, AnnotationName{op.Ref, op.Person, op.Entry})
	if op.Remove {
		return a.del(bktAnnotation, k)
	}
	v, err := a.s.keys.seal(op.Ref.BAL, bktAnnotation, k, encodeAnnotation(&op.Annotation))
	if err != nil {
		return err
	}
	if err := a.roomForAnnotation(&op, k, v); err != nil {
		return err
	}
	return a.put(bktAnnotation, k, v)
}

// annotationCount is how many annotations there are, and their octets.
type annotationCount struct{ here, all, octets int }

func (n annotationCount) over(here, all, octets int) bool {
	return n.here >= here || n.all >= all || n.octets > octets
}

// roomForAnnotation counts what is there beside the record at k; it is few. Whose the others are is looked at only where one
// person may have their share, so that nobody takes the room of the team.
func (a *apply) roomForAnnotation(op *PutAnnotation, k, v []byte) error {
	all, err := a.countAnnotations(op.Ref, k, func([]byte, []byte) (bool, error) { return true, nil })
	if all.octets += len(v); err == nil && all.over(maxAnnotations, maxBALAnnotations, maxBALAnnotOctets) {
		err = fmt.Errorf("%w: annotations", ErrTooMany)
	}
	if err != nil || op.Person == "" || !all.over(maxOwnHere, maxOwn, maxOwnOctets) {
		return err
	}
	own, err := a.countAnnotations(op.Ref, k, func(at, was []byte) (bool, error) {
		other, err := a.s.keys.openAnnotation(at, was)
		if errors.Is(err, ErrCorrupt) {
			return false, nil // Check tells of it
		}
		return other.Person == op.Person, err
	})
	if own.octets += len(v); err == nil && own.over(maxOwnHere, maxOwn, maxOwnOctets) {
		err = fmt.Errorf("%w: annotations of a person", ErrTooMany)
	}
	return err
}

func (a *apply) countAnnotations(r Ref, except []byte, which func(k, v []byte) (bool, error)) (n annotationCount, err error) {
	bal := keyBAL(r.BAL)
	c := a.buckets[bktAnnotation].Cursor()
	for at, was := c.Seek(bal); bytes.HasPrefix(at, bal); at, was = c.Next() {
		if bytes.Equal(at, except) {
			continue
		}
		if counts, err := which(at, was); err != nil || !counts {
			if err != nil {
				return n, err
			}
			continue
		}
		if n.all++; keyIs(at, annotationKeyLen) && refOfKey(at) == r {
			n.here++
		}
		n.octets += len(was)
	}
	return n, nil
}

// dropAnnotations takes those of a mailbox away.
func (a *apply) dropAnnotations(r Ref) error {
	var keys [][]byte
	prefix := keyBox(r)
	c := a.buckets[bktAnnotation].Cursor()
	for k, _ := c.Seek(prefix); bytes.HasPrefix(k, prefix); k, _ = c.Next() {
		keys = append(keys, bytes.Clone(k))
	}
	for _, k := range keys {
		if err := a.del(bktAnnotation, k); err != nil {
			return err
		}
	}
	return nil
}

// Annotations are those of a mailbox, or of a BAL where Mailbox is 0, that belong to a person or to all.
func (s *Store) Annotations(r Ref, person string) ([]Annotation, error) {
	if _, err := s.bal(r.BAL); err != nil {
		return nil, err
	}
	type record struct{ k, v []byte }
	var found []record
	prefix := binary.BigEndian.AppendUint32(keyBAL(r.BAL), uint32(r.Mailbox))
	err := s.read(func(tx *bolt.Tx) error {
		c := tx.Bucket(bucketNames[bktAnnotation]).Cursor()
		for k, v := c.Seek(prefix); bytes.HasPrefix(k, prefix) && len(found) < maxAnnotations; k, v = c.Next() {
			found = append(found, record{bytes.Clone(k), bytes.Clone(v)})
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	var list []Annotation
	for _, f := range found {
		a, err := s.keys.openAnnotation(f.k, f.v)
		if err != nil {
			s.log.Warn("an annotation cannot be read", "err", err) // Check says which
			continue
		}
		if a.Person == "" || a.Person == person {
			list = append(list, a)
		}
	}
	return list, nil
}

// annotations looks at each (Check).
func (c *checker) annotations() {
	counts := map[Ref]int{}
	all, octets := map[BALID]int{}, map[BALID]int{}
	c.each(bktAnnotation, func(k, v []byte) error {
		if !keyIs(k, annotationKeyLen) {
			return corrupt("key")
		}
		r := refOfKey(k)
		if c.faulty(r.BAL) {
			return nil
		}
		if c.disk.bals[r.BAL] == nil {
			c.bad(17, "annotation %x has no BAL", k)
			return nil
		}
		if b := c.disk.boxes[r.Mailbox]; r.Mailbox != 0 && (b == nil || b.rec.BAL != r.BAL) {
			c.bad(17, "annotation %x has no mailbox", k)
		}
		if _, err := c.s.keys.openAnnotation(k, v); err != nil {
			c.bad(17, "annotation %x: %v", k, err)
		}
		counts[r]++
		all[r.BAL]++
		octets[r.BAL] += len(v)
		if counts[r] == maxAnnotations+1 || all[r.BAL] == maxBALAnnotations+1 || octets[r.BAL] > maxBALAnnotOctets {
			c.bad(17, "BAL %d, mailbox %d: too many annotations", r.BAL, r.Mailbox)
		}
		return nil
	})
}

// mendAnnotations keeps those that open, of mailboxes that exist (Repair).
func (r *repair) mendAnnotations() error {
	return r.each(bktAnnotation, func(k, v []byte) error {
		if len(k) >= 4 && r.verbatim(balOfKey(k)) {
			return r.putIn(bktAnnotation, k, v)
		}
		err := errOrphan
		if keyIs(k, annotationKeyLen) && r.bals[balOfKey(k)] != nil {
			at := refOfKey(k)
			if b := r.boxes[at.Mailbox]; at.Mailbox == 0 || b != nil && b.BAL == at.BAL {
				_, err = r.keys.openAnnotation(k, v)
			}
		}
		if err != nil {
			r.setAside(bktAnnotation, k, v, err)
			return nil
		}
		return r.putIn(bktAnnotation, k, v)
	})
}
