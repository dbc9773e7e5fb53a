package message

import "bytes"

// sink takes folded text; done means that more of it would change nothing.
type sink interface {
	add(p []byte)
	done() bool
}

// bounded keeps the beginning of what it is given.
type bounded struct {
	buf   []byte
	limit int
	cut   bool // something did not fit
}

func (b *bounded) add(p []byte) {
	if b.buf == nil {
		b.buf = make([]byte, 0, min(b.limit, max(len(p), pieceLen)))
	}
	if room := b.limit - len(b.buf); len(p) > room {
		p, b.cut = p[:max(room, 0)], true
	}
	b.buf = append(b.buf, p...)
}

func (b *bounded) done() bool { return b.cut }

// matcher looks for needle in a stream and holds no more than a window of it.
type matcher struct {
	needle []byte
	buf    []byte
	found  bool
}

const matchWindow = 16 << 10

func (m *matcher) add(p []byte) {
	if m.found {
		return
	}
	if len(m.needle) == 0 {
		m.found = true
		return
	}
	m.buf = append(m.buf, p...)
	// Looking once per window, not once per piece, keeps the cost linear when pieces are small.
	if len(m.buf) >= matchWindow+2*len(m.needle) {
		m.look()
	}
}

func (m *matcher) look() {
	if m.found || len(m.needle) == 0 || len(m.buf) < len(m.needle) {
		return
	}
	m.found = bytes.Contains(m.buf, m.needle)
	keep := min(len(m.buf), len(m.needle)-1)
	m.buf = append(m.buf[:0], m.buf[len(m.buf)-keep:]...)
}

func (m *matcher) done() bool { return m.found }

// folded is a writer that folds a stream of text into a sink, one line per part.
type folded struct {
	to   sink
	f    folder
	hold []byte // beginning of a rune that is not complete, up to 3 octets
	buf  []byte
	any  bool // something was written since the last line end
}

const pieceLen = 4 << 10

func (w *folded) write(p []byte) {
	for len(p) > 0 && !w.to.done() {
		n := min(len(p), pieceLen)
		w.piece(p[:n], false)
		p = p[n:]
	}
}

func (w *folded) piece(p []byte, final bool) {
	if len(w.hold) > 0 {
		p = append(w.hold, p...)
	}
	if !w.any {
		w.f.space = true // no white space at the beginning of a line
	}
	var rest int
	if w.buf == nil && len(p) > 0 {
		w.buf = make([]byte, 0, len(p)+64)
	}
	w.buf, rest = w.f.fold(w.buf[:0], p, final)
	w.hold = append(w.hold[:0:0], p[len(p)-rest:]...)
	if len(w.buf) > 0 {
		w.any = true
		w.to.add(w.buf)
	}
}

// end closes the line. A line without text is none.
func (w *folded) end() {
	w.piece(nil, true)
	if w.any {
		w.to.add([]byte{'\n'})
	}
	w.any = false
}
