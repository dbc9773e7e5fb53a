package imapd

import (
	"bufio"
	"bytes"
	stdflate "compress/flate"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"mssd/imapd/wire"
	"mssd/store"
)

// packedConn is the client's end of a compressed connection, with the compressor of the standard library.
type packedConn struct {
	net.Conn
	r   io.Reader
	w   *stdflate.Writer
	got int // octets read, packed
}

// counted reads from a session's reader and counts.
type counted struct {
	br *bufio.Reader
	n  *int
}

func (c counted) Read(b []byte) (int, error) {
	n, err := c.br.Read(b)
	*c.n += n
	return n, err
}

func (p *packedConn) Read(b []byte) (int, error) { return p.r.Read(b) }
func (p *packedConn) Write(b []byte) (int, error) {
	n, err := p.w.Write(b)
	if err == nil {
		err = p.w.Flush()
	}
	return n, err
}

// pack makes the session speak compressed from here on.
func (s *session) pack() {
	w, err := stdflate.NewWriter(s.nc, 6)
	if err != nil {
		s.t.Fatal(err)
	}
	p := &packedConn{Conn: s.nc, w: w}
	p.r = stdflate.NewReader(counted{s.br, &p.got})
	s.nc = p
	s.br = bufio.NewReader(s.nc)
}

// loginPacked is login, compressed.
func (w *world) loginPacked(user, box string) *session {
	w.t.Helper()
	s := w.login(user, box)
	s.ok("COMPRESS DEFLATE")
	s.pack()
	return s
}

// TestTranscriptsCompressed plays every transcript again, compressed from the login on: nothing changes.
func TestTranscriptsCompressed(t *testing.T) {
	files := must[[]string](t, "transcripts")(filepath.Glob("../testdata/imap/*.txt"))
	for _, f := range files {
		b := string(must[[]byte](t, f)(os.ReadFile(f)))
		if strings.Contains(b, "COMPRESS") {
			continue
		}
		t.Run(strings.TrimSuffix(filepath.Base(f), ".txt"), func(t *testing.T) { playTranscript(t, b, true) })
	}
}

// TestCompressInjection: what stands behind COMPRESS in the same packet is never run as it stands; packed it is a command.
func TestCompressInjection(t *testing.T) {
	w := newWorld(t, nil)
	s := w.login(ownerName, "")
	s.send("x1 COMPRESS DEFLATE\r\nx2 CREATE Injecte\r\n")
	if l := s.line(); !strings.HasPrefix(l, "x1 OK") {
		s.fail("got %q", l)
	}
	rest, _ := io.ReadAll(stdflate.NewReader(s.br))
	if got := string(rest); !strings.HasPrefix(got, "* BYE What was compressed cannot be read\r\n") {
		s.fail("then got %q", got)
	}
	if _, err := w.store.Mailbox(w.bal.ID, "Injecte"); err == nil {
		t.Error("the injected command was run")
	}

	s = w.login(ownerName, "")
	s.send("x1 COMPRESS DEFLATE\r\n" + string(appendPacked(nil, []byte("x2 CREATE Permis\r\n"))))
	s.line()
	s.pack()
	if l := s.line(); !strings.HasPrefix(l, "x2 OK") {
		s.fail("got %q", l)
	}
	s.ok("NOOP")
}

// TestPartialFlush: zlib's Z_PARTIAL_FLUSH, which mutt uses, ends no octet. Made by Python:
// c = zlib.compressobj(9, zlib.DEFLATED, -15); c.compress(b"a1 NOOP\r\n") + c.flush(zlib.Z_PARTIAL_FLUSH), and again a2.
func TestPartialFlush(t *testing.T) {
	s := newWorld(t, nil).login(ownerName, "")
	s.ok("COMPRESS DEFLATE")
	raw := s.nc
	s.pack()
	for i, packed := range []string{"4a3454f0f3f70fe0e50208", "a04423280320"} {
		if _, err := raw.Write(must[[]byte](t, "hex")(hex.DecodeString(packed))); err != nil {
			t.Fatal(err)
		}
		if l := s.line(); l != fmt.Sprintf("a%d OK NOOP completed", i+1) {
			s.fail("got %q", l)
		}
	}
}

// TestCompressCorrupt: a stream that cannot be read, or ends, ends the session, in IDLE and in a message too.
func TestCompressCorrupt(t *testing.T) {
	w := newWorld(t, nil)
	for name, before := range map[string]string{"at a command": "", "in IDLE": "x IDLE\r\n", "in a message": "x APPEND INBOX {100}\r\n"} {
		for what, packed := range map[string][]byte{"garbage": {0xff, 0xff, 0xff}, "the last block": lastBlock("")} {
			t.Run(name+", "+what, func(t *testing.T) {
				s := w.login(ownerName, "")
				s.ok("COMPRESS DEFLATE")
				raw := s.nc
				s.pack()
				if before != "" {
					s.send(before)
					s.line()
				}
				if _, err := raw.Write(packed); err != nil {
					t.Fatal(err)
				}
				for l := s.line(); l != ""; l = s.line() {
					if !strings.HasPrefix(l, "* ") && !strings.HasPrefix(l, "x ") {
						s.fail("got %q", l)
					}
				}
			})
		}
	}
	if n := w.box("INBOX").Messages; n != 0 {
		t.Errorf("%d messages were stored", n)
	}
}

// TestCompressBomb: 256 MiB in 256 KiB are a command that is too long, whatever it is packed as; they are not unpacked
// into memory.
func TestCompressBomb(t *testing.T) {
	w := newWorld(t, nil)
	huge := strings.Repeat("A", 256<<20)
	bombs := map[string][]byte{}
	for name, head := range map[string]string{"line": "x NOOP ", "literal": "x LIST \"\" {60000}\r\n", "line of IDLE": "x IDLE\r\n"} {
		bombs[name] = appendPacked(nil, []byte(head+huge))
	}
	huge = ""
	for name, bomb := range bombs {
		t.Run(name, func(t *testing.T) {
			s := w.login(ownerName, "")
			s.ok("COMPRESS DEFLATE")
			raw := s.nc
			s.pack()
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			go func() { _, _ = raw.Write(bomb) }() // fails when the server has closed
			for l := s.line(); l != ""; l = s.line() {
				if strings.Contains(l, "x OK") {
					s.fail("got %q", l)
				}
			}
			runtime.ReadMemStats(&after)
			if n := after.TotalAlloc - before.TotalAlloc; n > 16<<20 {
				t.Errorf("%d octets were allocated for it", n)
			}
		})
	}
}

// TestCompressedEnds: a session that waits, in IDLE or not, reads why it ends.
func TestCompressedEnds(t *testing.T) {
	w := newWorld(t, nil)
	a, b, c := w.loginPacked(ownerName, "INBOX"), w.loginPacked(ownerName, ""), w.loginPacked(readerName, "INBOX")
	a.send("i IDLE\r\n")
	a.line()
	w.deliver("INBOX", mail)
	expect(a, []string{a.line(), a.line()}, "* 1 EXISTS", "* 1 RECENT")
	w.commit(store.EndMember{Address: balAddress, Member: "local:luc"})
	if l := c.line(); !strings.HasPrefix(l, "* BYE") {
		c.fail("a withdrawn right: got %q", l)
	}
	a.send("DONE\r\n")
	if l := a.line(); l != "i OK IDLE completed" {
		a.fail("got %q", l)
	}
	a.send("i IDLE\r\n")
	a.line()
	w.stop()
	for _, s := range []*session{a, b} {
		if l := s.line(); !strings.HasPrefix(l, "* BYE") {
			s.fail("got %q", l)
		}
	}
}

// TestCompressedBig: 25 MB come through whole in both directions, and a client that does not read keeps nobody waiting.
func TestCompressedBig(t *testing.T) {
	w := newWorld(t, nil)
	junk := make([]byte, 5<<20) // more than a connection takes that nobody reads
	r := rand.New(rand.NewPCG(1, 2))
	for i := range junk {
		junk[i] = byte(r.Uint32())
	}
	var raw strings.Builder
	raw.WriteString("Subject: image\r\nContent-Transfer-Encoding: base64\r\n\r\n")
	for text := base64.StdEncoding.EncodeToString(junk); len(text) > 0; {
		n := min(76, len(text))
		raw.WriteString(text[:n] + "\r\n")
		text = text[n:]
	}
	s := w.loginPacked(ownerName, "INBOX")
	s.all.Grow(1 << 20)
	s.send(fmt.Sprintf("x APPEND INBOX {%d}\r\n", raw.Len()))
	s.line()
	for rest := raw.String(); rest != ""; { // in parts: each has its time
		n := min(1<<20, len(rest))
		_ = s.nc.SetDeadline(time.Now().Add(patience))
		if _, err := io.WriteString(s.nc, rest[:n]); err != nil {
			t.Fatal(err)
		}
		rest = rest[n:]
	}
	s.send("\r\n")
	if _, tagged := s.until("x"); !strings.HasPrefix(tagged, "OK") {
		t.Fatalf("APPEND: %q", tagged)
	}
	slow := w.loginPacked(ownerName, "INBOX")
	slow.send("x FETCH 1 BODY.PEEK[]\r\n")
	un := s.ok("FETCH 1 BODY.PEEK[]")
	if _, got, _ := strings.Cut(un[0], "\r\n"); got != raw.String()+")" && !strings.HasPrefix(got, raw.String()) {
		t.Errorf("%d octets came back, of %d", len(got), raw.Len())
	}
	w.deliver("INBOX", mail)
	s.ok("NOOP")
	s.ok(`STORE 2 +FLAGS (\Seen)`)
}

// TestApart: a message that repeats the words of another does not make the answer shorter by it: who sends guesses
// cannot learn from the length whether one was right. Flags and numbers, which nobody sends, do share.
func TestApart(t *testing.T) {
	junk := make([]byte, 300)
	r := rand.New(rand.NewPCG(3, 4))
	for i := range junk {
		junk[i] = byte(r.Uint32())
	}
	secret := "Subject: " + base64.RawStdEncoding.EncodeToString(junk)
	w := newWorld(t, nil)
	w.deliver("INBOX", secret+"\r\n\r\n"+secret+"\r\n")
	w.deliver("INBOX", secret+"\r\n\r\n"+secret+"\r\n")
	s := w.loginPacked(ownerName, "INBOX")
	size := func(set, items string) int {
		before := s.nc.(*packedConn).got
		s.ok("FETCH " + set + " " + items)
		return s.nc.(*packedConn).got - before
	}
	for _, items := range []string{"ENVELOPE", "BODY.PEEK[HEADER]", "BODY.PEEK[TEXT]", "BODY.PEEK[HEADER.FIELDS (SUBJECT)]", "PREVIEW", "BINARY.PEEK[1]"} {
		one, both := size("1", items), size("1:2", items)
		if both < 2*one-60 {
			t.Errorf("%s: one message takes %d octets, two alike %d", items, one, both)
		}
	}
	for range 200 {
		w.deliver("INBOX", mail)
	}
	s.ok("NOOP")
	if n, plain := size("1:*", "(UID FLAGS INTERNALDATE)"), 200*len(`* 1 FETCH (UID 1 FLAGS () INTERNALDATE "14-Mar-2025 09:26:53 +0000")`); n > plain/5 {
		t.Errorf("flags of 202 messages take %d octets", n)
	}
}

// TestPackedOut: whatever is added, streamed and set apart comes out as it went in, whole at each flush, and a writer
// that is flushed holds nothing.
func TestPackedOut(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		nc := &sink{}
		o := out{nc: nc, timeout: time.Second, packs: true}
		var want bytes.Buffer
		unpacked := stdflate.NewReader(&nc.Buffer)
		for range rapid.IntRange(1, 30).Draw(t, "steps") {
			switch rapid.IntRange(0, 4).Draw(t, "step") {
			case 0:
				n := rapid.Int64Range(0, 200_000).Draw(t, "body")
				if err := o.stream(flaky{n}, 0, n); err != nil {
					t.Fatal(err)
				}
				want.WriteString(strings.Repeat("x", int(n)))
			case 1:
				b := rapid.SliceOfN(rapid.Byte(), 0, 3000).Draw(t, "octets")
				o.add(func(to []byte) []byte { return append(to, b...) })
				want.Write(b)
			case 2:
				b := bytes.Repeat([]byte("long "), rapid.IntRange(0, 100_000).Draw(t, "words"))
				o.add(func(to []byte) []byte { return append(to, b...) })
				want.Write(b)
			case 3:
				o.apart()
			case 4:
				if err := o.flush(); err != nil || o.buf != nil || o.packed != nil {
					t.Fatalf("flush: %v", err)
				}
				got := make([]byte, want.Len())
				if _, err := io.ReadFull(unpacked, got); err != nil || !bytes.Equal(got, want.Bytes()) {
					t.Fatalf("%d octets went in, others came out: %v", want.Len(), err)
				}
				want.Reset()
			}
		}
	})
}

// TestPackedBase64: an attachment shrinks by the quarter that base64 makes of it, lines and all.
func TestPackedBase64(t *testing.T) {
	b := samples()["random"][:40_000]
	text := []byte(base64.StdEncoding.EncodeToString(b))
	if n := len(appendPacked(nil, text)); n > len(text)*77/100 {
		t.Errorf("%d octets of base64 take %d", len(text), n)
	}
	if n := len(appendPacked(nil, b)); n > len(b)+100 {
		t.Errorf("%d octets without order take %d", len(b), n)
	}
}

// TestPackedStreamFails: after a fault in the middle of a literal nothing more is written.
func TestPackedStreamFails(t *testing.T) {
	nc := &sink{}
	o := out{nc: nc, timeout: time.Second, packs: true}
	if err := o.stream(flaky{150000}, 0, 200000); err == nil {
		t.Fatal("no error")
	}
	sent := nc.Len()
	o.str(")\r\nx OK FETCH completed\r\n")
	if err := o.flush(); err == nil || nc.Len() != sent {
		t.Errorf("after the fault: %v, %d octets sent, then %d", err, sent, nc.Len())
	}
}

// FuzzUnpack reads commands from any octets taken for packed ones, and from any text that is packed.
func FuzzUnpack(f *testing.F) {
	f.Add([]byte("a NOOP\r\n"))
	f.Add(appendPacked(nil, []byte("a LOGIN x {3}\r\nabc\r\n")))
	f.Add(append(appendPacked(nil, []byte("a NOOP\r\n")), lastBlock("b NOOP\r\n")...))
	f.Add([]byte{0x4a, 0x34, 0x54, 0xf0, 0xf3, 0xf7, 0x0f, 0xe0, 0xe5, 0x02, 0x08})
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, packed := range [][]byte{b, appendPacked(nil, b)} {
			br := bufio.NewReaderSize(newInflater(bytes.NewReader(packed)), readSize)
			for range 100 {
				if _, err := wire.ReadCommand(br, wire.DefaultLimits(), func() error { return nil }); err != nil {
					break
				}
			}
		}
		if got, _ := io.ReadAll(stdflate.NewReader(bytes.NewReader(appendPacked(nil, b)))); !bytes.Equal(got, b) {
			t.Errorf("%q came out as %q", b, got)
		}
	})
}

// BenchmarkCompressed: bodies and overviews with and without COMPRESS; "wire" is the share of the octets that is sent.
func BenchmarkCompressed(b *testing.B) {
	w := benchWorld(b)
	w.fill("B", 1000, 5<<10)
	junk := make([]byte, 150<<10)
	r := rand.New(rand.NewPCG(5, 6))
	for i := range junk {
		junk[i] = byte(r.Uint32())
	}
	w.deliver("INBOX", mail+base64.StdEncoding.EncodeToString(junk))
	for _, c := range []struct{ name, box, cmd string }{
		{"text", "B", "UID FETCH 1:* BODY.PEEK[]"},
		{"base64", "INBOX", "UID FETCH 1 BODY.PEEK[]"},
		{"overview", "B", "FETCH 1:* (UID FLAGS INTERNALDATE RFC822.SIZE ENVELOPE)"},
		{"flags", "B", "FETCH 1:* (UID FLAGS)"},
	} {
		for _, packed := range []bool{false, true} {
			b.Run(fmt.Sprintf("%s/packed=%v", c.name, packed), func(b *testing.B) {
				s := w.login(ownerName, c.box)
				plain := s.plain(c.cmd)
				if packed {
					s.ok("COMPRESS DEFLATE")
					s.pack()
				}
				s.forBench()
				sent := 0
				b.SetBytes(int64(plain))
				for b.Loop() {
					s.pipe(b, c.cmd)
					sent += plain
				}
				if packed {
					b.ReportMetric(float64(s.nc.(*packedConn).got)/float64(sent), "wire")
				}
			})
		}
	}
}

// plain is how many octets the answer to a command has.
func (s *session) plain(cmd string) (n int) {
	un := s.ok(cmd)
	for _, l := range un {
		n += len(l) + 2
	}
	return n
}

// BenchmarkUnpacker: what an idle session pays for COMPRESS, but for 3 KB when its client sends blocks with codes of their own.
func BenchmarkUnpacker(b *testing.B) {
	packed := appendPacked(nil, []byte("a NOOP\r\n"))
	b.ReportAllocs()
	for b.Loop() {
		r := newInflater(bytes.NewReader(packed))
		if n, err := r.Read(make([]byte, 64)); n != 8 || err != nil {
			b.Fatal(n, err)
		}
	}
}
