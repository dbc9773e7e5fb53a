package imapd

import (
	"bytes"
	"errors"
	"net"
	"testing"
	"time"
)

// flaky fails from an offset on, as a disk does.
type flaky struct{ good int64 }

var errDisk = errors.New("disk")

func (f flaky) ReadAt(p []byte, off int64) (int, error) {
	n := 0
	for n < len(p) && off+int64(n) < f.good {
		p[n] = 'x'
		n++
	}
	if n < len(p) {
		return n, errDisk
	}
	return n, nil
}

// sink is a connection that counts its writes.
type sink struct {
	net.Conn
	bytes.Buffer
	writes int
}

func (s *sink) Write(p []byte) (int, error)      { s.writes++; return s.Buffer.Write(p) }
func (s *sink) Read(p []byte) (int, error)       { return 0, errDisk }
func (s *sink) SetWriteDeadline(time.Time) error { return nil }

// TestStreamFails: after a fault in the middle of a literal nothing more is written, whatever is added.
func TestStreamFails(t *testing.T) {
	s := &sink{}
	o := out{nc: s, timeout: time.Second}
	o.str("* 1 FETCH (BODY[] {200000}\r\n")
	if err := o.stream(flaky{150000}, 0, 200000); !errors.Is(err, errDisk) || !errors.Is(err, errBody) {
		t.Fatalf("stream: %v", err)
	}
	sent := s.Len()
	o.str(")\r\nx OK FETCH completed\r\n")
	if err := o.flush(); err == nil || s.Len() != sent || sent > 150100 {
		t.Errorf("after the fault: %v, %d octets sent, then %d", err, sent, s.Len())
	}
}

// TestBatching: 10,000 short responses are a few writes, a large body is as many as it has buffers, and an idle
// writer holds no buffer.
func TestBatching(t *testing.T) {
	s := &sink{}
	o := out{nc: s, timeout: time.Second}
	for range 10000 {
		o.line("* 1 FETCH (FLAGS (\\Seen))")
	}
	if err := o.stream(flaky{1 << 20}, 0, 1<<20); err != nil {
		t.Fatal(err)
	}
	if err := o.flush(); err != nil {
		t.Fatal(err)
	}
	want := 10000*len("* 1 FETCH (FLAGS (\\Seen))\r\n") + 1<<20
	if s.Len() != want || s.writes > want/outSize*5/4+2 {
		t.Errorf("%d octets in %d writes, want %d", s.Len(), s.writes, want)
	}
	if o.buf != nil {
		t.Error("the buffer was kept")
	}
}
