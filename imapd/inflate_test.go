package imapd

import (
	"bufio"
	"bytes"
	stdflate "compress/flate"
	"encoding/hex"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"testing/iotest"
)

// samples are texts of several natures, each with what it is.
func samples() map[string][]byte {
	r := rand.New(rand.NewPCG(7, 8))
	random, few, far := make([]byte, 100_000), make([]byte, 100_000), make([]byte, 0, 200_000)
	for i := range random {
		random[i] = byte(r.Uint32())
		few[i] = "aab\r\n"[r.IntN(5)]
	}
	for range 5 { // what is repeated lies as far back as a reference reaches, and further
		far = append(far, random[:33_000]...)
	}
	return map[string][]byte{"nothing": nil, "one": {'a'}, "words": []byte(strings.Repeat("a1 UID FETCH 1:* (FLAGS)\r\n", 5000)),
		"random": random, "few": few, "far": far, "zeros": make([]byte, 300_000)}
}

// TestInflate: what the standard library packs at any level, flushed in pieces of any size, comes out, however it comes in.
func TestInflate(t *testing.T) {
	for name, want := range samples() {
		for _, level := range []int{-2, 0, 1, 6, 9} {
			var packed bytes.Buffer
			w := must[*stdflate.Writer](t, "writer")(stdflate.NewWriter(&packed, level))
			for rest := want; len(rest) > 0; {
				n := min(len(rest), 1+len(rest)/3)
				_, _ = w.Write(rest[:n])
				_ = w.Flush()
				rest = rest[n:]
			}
			_ = w.Close()
			for how, src := range map[string]io.Reader{"at once": bytes.NewReader(packed.Bytes()), "by one": iotest.OneByteReader(bytes.NewReader(packed.Bytes())),
				"by halves": iotest.HalfReader(bytes.NewReader(packed.Bytes()))} {
				if got, err := io.ReadAll(newInflater(src)); err != nil || !bytes.Equal(got, want) {
					t.Errorf("%s, level %d, %s: %d octets, %v; want %d", name, level, how, len(got), err, len(want))
				}
			}
		}
	}
}

// TestInflatePartial: zlib's Z_PARTIAL_FLUSH, the shortest, ends no octet and leaves a part of the next block unsent; what
// was said before comes out all the same. testdata/partial.txt was made by Python:
//
//	c = zlib.compressobj(level, zlib.DEFLATED, -15); c.compress(line) + c.flush(zlib.Z_PARTIAL_FLUSH)
//
// one line in hex, then its packed form, for each of some commands, at the levels 1, 6 and 9.
func TestInflatePartial(t *testing.T) {
	lines := strings.Fields(string(must[[]byte](t, "file")(os.ReadFile("testdata/partial.txt"))))
	decode := func(s string) []byte { return must[[]byte](t, "hex")(hex.DecodeString(strings.TrimPrefix(s, "-"))) }
	pr, pw := io.Pipe()
	f := newInflater(pr)
	for i := 0; i < len(lines); i += 2 {
		if lines[i][0] == '-' { // another stream
			pr, pw = io.Pipe()
			f = newInflater(pr)
		}
		want, packed := decode(lines[i]), decode(lines[i+1])
		go func() { _, _ = pw.Write(packed) }() // nothing more comes until it was read
		got := make([]byte, len(want))
		if _, err := io.ReadFull(f, got); err != nil || !bytes.Equal(got, want) {
			t.Fatalf("line %d: got %q, %v; want %q", i+1, got, err, want)
		}
	}
}

// TestInflateCorrupt: what is no stream is refused as errDeflate, what ends early as io.ErrUnexpectedEOF, each for good.
func TestInflateCorrupt(t *testing.T) {
	for _, c := range []struct {
		name, packed string
		want         error
	}{
		{"nothing", "", io.ErrUnexpectedEOF},
		{"third kind of block", "07", errDeflate},
		{"stored, lengths that differ", "0001000000", errDeflate},
		{"stored, cut off", "000500faff6162", io.ErrUnexpectedEOF},
		{"fixed, cut off", "4a", io.ErrUnexpectedEOF},
		{"reference to before the beginning", "020200", errDeflate},
		{"fixed, length symbol 286", "1b03", errDeflate},
		{"too many lengths", "fcff01", errDeflate},
		{"codes that are none", "04ffffffffffffffffffffffff", errDeflate},
		{"repeat of nothing", "0500420000000000", errDeflate},
	} {
		b := must[[]byte](t, "hex")(hex.DecodeString(c.packed))
		f := newInflater(bytes.NewReader(b))
		_, err := io.ReadAll(f)
		_, again := f.Read(make([]byte, 1))
		if !errors.Is(err, c.want) || again != err {
			t.Errorf("%s: %v, then %v; want %v", c.name, err, again, c.want)
		}
		if _, std := io.ReadAll(stdflate.NewReader(bytes.NewReader(b))); std == nil {
			t.Errorf("%s: the standard library takes it", c.name)
		}
	}
}

// TestInflateRoom: what a session costs that has sent short commands only, and that no stream makes it cost more than a window.
func TestInflateRoom(t *testing.T) {
	var packed bytes.Buffer
	w := must[*stdflate.Writer](t, "writer")(stdflate.NewWriter(&packed, 6))
	_, _ = w.Write([]byte("a1 SELECT INBOX\r\na2 UID FETCH 1:* (UID FLAGS ENVELOPE)\r\na3 IDLE\r\n"))
	_ = w.Flush()
	f := newInflater(&packed)
	if _, err := io.ReadAll(f); !errors.Is(err, io.ErrUnexpectedEOF) || cap(f.win) > 256 {
		t.Errorf("%d octets of history, %v", cap(f.win), err)
	}
	_, _ = w.Write(make([]byte, 10<<20))
	_ = w.Flush()
	f.err = nil
	_, _ = io.ReadAll(f)
	if cap(f.win) > 2*windowSize {
		t.Errorf("%d octets of history", cap(f.win))
	}
}

// FuzzInflate: any octets are unpacked as the standard library does, or refused as it does.
func FuzzInflate(f *testing.F) {
	for _, b := range samples() {
		f.Add(appendPacked(nil, b[:min(len(b), 2000)]), uint8(3))
	}
	f.Add([]byte{0x4a, 0x34, 0x54, 0xf0, 0xf3, 0xf7, 0x0f, 0xe0, 0xe5, 0x02, 0x08}, uint8(1))
	f.Add(lastBlock("b NOOP\r\n"), uint8(0))
	f.Fuzz(func(t *testing.T, b []byte, size uint8) {
		const bound = 1 << 20
		got, err := io.ReadAll(io.LimitReader(bufio.NewReaderSize(newInflater(iotest.OneByteReader(bytes.NewReader(b))), 16+int(size)), bound))
		want, wantErr := io.ReadAll(io.LimitReader(stdflate.NewReader(bytes.NewReader(b)), bound))
		if (err == nil) != (wantErr == nil) || !bytes.Equal(got, want) && err == nil {
			t.Fatalf("%x: %d octets, %v; the standard library says %d, %v", b, len(got), err, len(want), wantErr)
		}
		if len(got) < len(want) && !bytes.HasPrefix(want, got) {
			t.Fatalf("%x: other octets", b)
		}
	})
}

func BenchmarkInflate(b *testing.B) {
	for name, plain := range samples() {
		if len(plain) < 1000 {
			continue
		}
		var packed bytes.Buffer
		w, _ := stdflate.NewWriter(&packed, 6)
		_, _ = w.Write(plain)
		_ = w.Close()
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(plain)))
			buf := make([]byte, 4096)
			for b.Loop() {
				f := newInflater(bytes.NewReader(packed.Bytes()))
				for {
					if _, err := f.Read(buf); err != nil {
						break
					}
				}
			}
		})
	}
}
