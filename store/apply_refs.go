package store

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// blob is what the group knows of a body.
func (a *apply) blob(id MessageID) (blobRec, error) {
	v := a.get(bktBlob, keyID(id))
	if v == nil {
		return blobRec{}, ErrNoMessage
	}
	return decodeBlob(v)
}

func (a *apply) putBlob(id MessageID, r blobRec) error {
	return a.put(bktBlob, keyID(id), encodeBlob(r))
}

// newBlob enters the body of a batch; its references follow.
func (a *apply) newBlob(b *Blob) error {
	if a.get(bktBlob, keyID(b.id)) != nil {
		return fmt.Errorf("%w: the body is stored already", ErrInvalid)
	}
	if b.size > maxMailSize {
		return fmt.Errorf("%w: size of the body", ErrInvalid)
	}
	a.sys.LastID = max(a.sys.LastID, b.id)
	return a.putBlob(b.id, blobRec{Size: b.size})
}

// placeBlobs is the last step of a batch: the bodies go to their places. What cannot fail comes after, so that a file has
// to be taken back only when one after it could not be placed. A process that ends in between leaves bodies without a
// record, which the next start removes (places).
func (a *apply) placeBlobs(bodies []*Blob) error {
	for _, b := range bodies {
		rec, err := a.blob(b.id)
		if err != nil {
			return err
		}
		if rec.Refs == 0 || b.to == nil {
			return fmt.Errorf("%w: a body without a message", ErrInvalid)
		}
	}
	was := len(a.blobs)
	for _, b := range bodies {
		if err := a.placeBlob(b); err != nil {
			for _, placed := range a.blobs[was:] {
				if a.s.fs.Rename(a.s.blobPath(placed.id), placed.path) != nil {
					a.s.places.doubt = true
				}
			}
			a.blobs = a.blobs[:was]
			return err
		}
	}
	return nil
}

func (a *apply) placeBlob(b *Blob) error {
	dir, err := a.s.places.dir(b.id)
	if err != nil {
		return noWrite(err)
	}
	if err := a.s.fs.Rename(b.path, a.s.blobPath(b.id)); err != nil {
		a.s.places.doubt = true
		return noWrite(err)
	}
	a.dirs[dir] = struct{}{}
	a.blobs = append(a.blobs, b)
	return nil
}

func (a *apply) prefix(bal BALID, id MessageID) (prefixRec, error) {
	v := a.get(bktPrefix, keyPrefix(bal, id))
	if v == nil {
		return prefixRec{}, corrupt("message without a prefix record")
	}
	r, err := decodePrefix(v)
	r.Sealed = bytes.Clone(r.Sealed)
	return r, err
}

// refPrefix counts one more row of a BAL that uses a message. key is that of the body; nil: it is looked for.
func (a *apply) refPrefix(bal BALID, id MessageID, key *secret, prefix []byte) error {
	if a.get(bktPrefix, keyPrefix(bal, id)) != nil {
		r, err := a.prefix(bal, id)
		if err != nil {
			return err
		}
		_, had, err := a.s.keys.openPrefix(bal, id, r)
		if err != nil {
			return err
		}
		if !bytes.Equal(had, prefix) {
			return fmt.Errorf("%w: another prefix for the same message", ErrInvalid)
		}
		r.Refs++
		return a.put(bktPrefix, keyPrefix(bal, id), encodePrefix(r))
	}
	if key == nil {
		k, err := a.s.contentKey(id)
		if err != nil {
			return err
		}
		key = &k
	}
	b, err := a.blob(id)
	if err != nil {
		return err
	}
	if !b.Dead.IsZero() { // it comes back to life
		if err := a.del(bktDead, keyDead(b.Dead, id)); err != nil {
			return err
		}
	}
	r, err := a.s.keys.sealPrefix(bal, id, key, prefix)
	if err != nil {
		return err
	}
	b = blobRec{Size: b.Size, Refs: b.Refs + 1}
	if err := a.putBlob(id, b); err != nil {
		return err
	}
	return a.put(bktPrefix, keyPrefix(bal, id), encodePrefix(r))
}

// sharePrefix counts one more row of a BAL for a message of another one, or of its own: the content key is wrapped
// again, the body stays as it is. A BAL that has the message already shows it with its own prefix: what delivery put
// before it may differ from one BAL to another. size is what the row of such a message counts, octets.
func (a *apply) sharePrefix(from, to BALID, row *Row) (size int64, err error) {
	id := row.Message
	if from != to && a.get(bktPrefix, keyPrefix(to, id)) == nil {
		r, err := a.prefix(from, id)
		if err != nil {
			return 0, err
		}
		key, prefix, err := a.s.keys.openPrefix(from, id, r)
		if err != nil {
			return 0, err
		}
		return row.Size, a.refPrefix(to, id, &key, prefix)
	}
	r, err := a.prefix(to, id)
	if err != nil {
		return 0, err
	}
	size = row.Size
	if from != to {
		_, prefix, err := a.s.keys.openPrefix(to, id, r)
		if err != nil {
			return 0, err
		}
		b, err := a.blob(id)
		if err != nil {
			return 0, err
		}
		size = int64(len(prefix)) + b.Size
	}
	r.Refs++
	return size, a.put(bktPrefix, keyPrefix(to, id), encodePrefix(r))
}

// unrefPrefix counts one row less. With the last row of a BAL its prefix goes, with the last BAL the body is dead.
func (a *apply) unrefPrefix(bal BALID, id MessageID) error {
	r, err := a.prefix(bal, id)
	if err != nil {
		return err
	}
	if r.Refs--; r.Refs > 0 {
		return a.put(bktPrefix, keyPrefix(bal, id), encodePrefix(r))
	}
	return a.dropPrefix(bal, id)
}

// dropPrefix takes away what a BAL has of a message. With the last BAL the body is dead.
func (a *apply) dropPrefix(bal BALID, id MessageID) error {
	if err := a.del(bktPrefix, keyPrefix(bal, id)); err != nil {
		return err
	}
	b, err := a.blob(id)
	if err != nil {
		return err
	}
	if b.Refs--; b.Refs > 0 {
		return a.putBlob(id, b)
	}
	b.Dead = seconds(a.now)
	if err := a.put(bktDead, keyDead(b.Dead, id), deadWaits); err != nil {
		return err
	}
	return a.putBlob(id, b)
}

// keywords are the words of a set, in this group.
func (a *apply) keywords(k KeywordSet) []string {
	if w, ok := a.words[k]; ok {
		return w
	}
	return a.s.mem.words[k]
}

// checkKeywords refuses what is no keyword: an atom that does not begin with a backslash (RFC 9051, Section 9,
// flag-keyword).
func checkKeywords(words []string) ([]string, error) {
	for _, w := range words {
		bad := w == "" || len(w) > maxKeyword || strings.ContainsFunc(w, func(r rune) bool {
			return r <= ' ' || r >= 0x7f || strings.ContainsRune(`(){%*"\]`, r)
		})
		if bad {
			return nil, ErrKeyword
		}
	}
	return words, nil
}

// intern gives the number of a set of keywords. Keywords differ by more than case (RFC 9051, Section 2.3.2); the
// first spelling in the set stays.
func (a *apply) intern(words []string) (KeywordSet, error) {
	if len(words) == 0 {
		return 0, nil
	}
	words, err := checkKeywords(slices.Clone(words))
	if err != nil {
		return 0, err
	}
	slices.SortStableFunc(words, func(x, y string) int { return cmp.Compare(strings.ToLower(x), strings.ToLower(y)) })
	words = slices.CompactFunc(words, strings.EqualFold)
	if len(words) > MaxKeywords {
		return 0, fmt.Errorf("%w: keywords", ErrLimit)
	}
	v := encodeKeywords(words)
	if k, ok := a.sets[string(v)]; ok {
		return k, nil
	}
	if k, ok := a.s.mem.sets[string(v)]; ok {
		return k, nil
	}
	if a.s.mem.wordOctets+a.wordOctets+len(v) > a.s.keywordRoom {
		return 0, fmt.Errorf("%w: sets of keywords", ErrLimit)
	}
	a.wordOctets += len(v)
	a.sys.LastKeywords++
	k := a.sys.LastKeywords
	a.sets[string(v)], a.words[k] = k, words
	a.undo = append(a.undo, func() error {
		delete(a.sets, string(v))
		delete(a.words, k)
		a.wordOctets -= len(v)
		return nil
	})
	kk := keyKeywords(k)
	return k, a.put(bktKeywords, kk, sealValue(nil, a.s.keys.values, string(bucketNames[bktKeywords]), kk, v))
}

// noteKeywords adds a set to those ever used in a mailbox.
func (a *apply) noteKeywords(b *boxWork, set KeywordSet) error {
	if set == 0 || set == b.Keywords {
		return nil
	}
	all, err := a.intern(append(slices.Clone(a.keywords(b.Keywords)), a.keywords(set)...))
	if err != nil {
		return err
	}
	b.Keywords = all
	return nil
}
