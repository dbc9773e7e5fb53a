package imapd

import (
	"bufio"
	"io"
	"sync"

	"mssd/imapd/wire"
)

// readSize is the read buffer of a connection whose client is speaking.
const readSize = 4 << 10 // octets

// readers holds the read buffers while their clients are silent, so that an idle session costs none.
var readers = sync.Pool{New: func() any { return bufio.NewReaderSize(nil, readSize) }}

// in reads from a connection. It waits for the client with a few octets of its own and borrows a buffer once
// something has come. One goroutine at a time may use it: the session's, or, in IDLE, the one that waits for DONE.
type in struct {
	nc   io.Reader
	br   *bufio.Reader // nil while the client is silent
	head [64]byte      // what came first, before there was a buffer
	rest []byte        // the part of head that br has not read yet
}

// Read is what br reads from.
func (i *in) Read(p []byte) (int, error) {
	if len(i.rest) > 0 {
		n := copy(p, i.rest)
		i.rest = i.rest[n:]
		return n, nil
	}
	return i.nc.Read(p)
}

// reader waits until there is something to read and returns the buffer that holds it.
func (i *in) reader() (*bufio.Reader, error) {
	if i.br == nil {
		n, err := i.nc.Read(i.head[:])
		if n == 0 && err != nil {
			return nil, err
		}
		i.rest = i.head[:n] // the error, if any, comes again: the guard and TLS keep theirs
		i.br = readers.Get().(*bufio.Reader)
		i.br.Reset(i)
	}
	return i.br, nil
}

// giveBack gives the buffer back when nothing is left in it.
func (i *in) giveBack() {
	if i.br != nil && i.br.Buffered() == 0 && len(i.rest) == 0 {
		i.br.Reset(nil)
		readers.Put(i.br)
		i.br = nil
	}
}

// line reads one line outside of commands.
func (i *in) line(max int) ([]byte, error) {
	br, err := i.reader()
	if err != nil {
		return nil, err
	}
	return wire.ReadLine(br, max)
}
