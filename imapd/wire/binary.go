package wire

// binarySection reads "[" part "]" of BINARY, BINARY.PEEK and BINARY.SIZE, and a partial but for the last
// (RFC 3516, Section 7).
func (l *lexer) binarySection(name string) (FetchItem, error) {
	item := FetchItem{Kind: FetchBinary, Peek: name != "BINARY"}
	if name == "BINARY.SIZE" {
		item.Kind = FetchBinarySize
	}
	if err := l.need('['); err != nil {
		return item, err
	}
	for !l.peek(']') {
		if len(item.Section.Part) > 0 && !l.take('.') {
			return item, bad("Malformed section")
		}
		n, err := l.number(1<<31 - 1)
		if err != nil || n == 0 || len(item.Section.Part) == maxPartDepth {
			return item, bad("Malformed part number")
		}
		item.Section.Part = append(item.Section.Part, int(n))
	}
	l.take(']')
	if item.Kind == FetchBinary && l.peek('<') {
		p, err := l.partial()
		if err != nil {
			return item, err
		}
		item.Partial = p
	}
	label := appendLabel(nil, &item)[len("BODY"):]
	if item.Kind == FetchBinarySize {
		item.Label = "BINARY.SIZE" + string(label)
	} else {
		item.Label = "BINARY" + string(label)
	}
	return item, nil
}

// AppendLiteral8Head appends "~{n}" CRLF; n octets must follow, which may be NUL (RFC 3516, Section 4.2).
func AppendLiteral8Head(dst []byte, n int64) []byte {
	return AppendLiteralHead(append(dst, '~'), n)
}
