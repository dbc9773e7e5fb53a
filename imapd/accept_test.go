package imapd

import (
	"net"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
)

// hungry is a listener that finds no file descriptor a few times.
type hungry struct {
	net.Listener
	times atomic.Int32
}

func (h *hungry) Accept() (net.Conn, error) {
	if h.times.Add(-1) >= 0 {
		return nil, &net.OpError{Op: "accept", Net: "tcp", Err: os.NewSyscallError("accept4", syscall.EMFILE)}
	}
	return h.Listener.Accept()
}

// Who takes all file descriptors must not end the front, and with it the daemon.
func TestAcceptOutOfDescriptors(t *testing.T) {
	w := newWorld(t, nil)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h := &hungry{Listener: ln}
	h.times.Store(3)
	served := make(chan error, 1)
	go func() { served <- w.srv.Serve(h) }()
	was := w.addr
	w.addr = ln.Addr().String()
	defer func() { w.addr = was }()
	line := make(chan string, 1)
	go func() { line <- w.dial().line() }()
	select {
	case l := <-line:
		if !strings.HasPrefix(l, "* OK") {
			t.Errorf("greeted with %q", l)
		}
	case err := <-served:
		t.Fatalf("the front ended: %v", err)
	}
}
