package wire

// maxObjectID is the longest name of an object (RFC 8474, Section 7).
const maxObjectID = 255

// objectID reads the argument of EMAILID and THREADID (RFC 8474, Section 6).
func (l *searcher) objectID(w string) (Key, error) {
	s := l.span(func(ch byte) bool { return isDigit(ch) || ch|0x20 >= 'a' && ch|0x20 <= 'z' || ch == '_' || ch == '-' })
	if len(s) == 0 || len(s) > maxObjectID {
		return Key{}, bad("Malformed object identifier")
	}
	k := Key{Op: KeyEmailID, Text: string(s)}
	if w == "THREADID" {
		k.Op = KeyThreadID
	}
	return k, nil
}

// within reads the argument of OLDER and YOUNGER, seconds (RFC 5032, Section 3).
func (l *searcher) within(w string) (Key, error) {
	n, err := l.number(maxUint32)
	if err == nil && n == 0 {
		err = bad("Number missing or out of range")
	}
	k := Key{Op: KeyYounger, Number: n}
	if w == "OLDER" {
		k.Op = KeyOlder
	}
	return k, err
}
