package store

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"pgregory.net/rapid"
)

// memSource is a sealed body in memory.
type memSource struct{ *bytes.Reader }

func (m memSource) Size() (int64, error) { return m.Reader.Size(), nil }

func testCodec(t testing.TB) *codec {
	t.Helper()
	c, err := newCodec()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.close)
	return c
}

var (
	testKey = secret{1, 2, 3}
	testBAL = newBALKey(secret{7, 7, 7})
	testAt  = time.Unix(1_780_000_000, 0).UTC()
)

const testID = 0x1122334455667788

// sealAll is a whole sealed body.
func sealAll(c *codec, id uint64, key secret, body []byte, to ...receiver) []byte {
	s := newSealer(c, id, key)
	defer s.release()
	for p := body; len(p) > 0; {
		p = p[s.fill(p):]
	}
	s.finish()
	s.address(testAt, to)
	return bytes.Clone(*s.out)
}

func unsealAll(c *codec, id uint64, key secret, sealed []byte, size int64) ([]byte, error) {
	end, err := readEnd(memSource{bytes.NewReader(sealed)})
	if err != nil {
		return nil, err
	}
	h, err := end.header(id)
	if err == nil {
		err = h.verify(&key)
	}
	if err != nil {
		end.release()
		return nil, err
	}
	u, err := newUnsealer(c, id, &key, end, size)
	if err != nil {
		return nil, err
	}
	defer u.release()
	return io.ReadAll(io.NewSectionReader(u, 0, u.size))
}

// noise cannot be compressed, letters can.
func noise(n int) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{9}).Read(b)
	return b
}

func letters(n int) []byte { return bytes.Repeat([]byte("Ordonnance du jour.\r\n"), n/21+1)[:n] }

func TestSealedBodies(t *testing.T) {
	c := testCodec(t)
	for _, n := range []int{0, 1, 100, tailLen, frameLen - 1, frameLen, frameLen + 1, 3*frameLen + 7, 20 * frameLen} {
		for name, body := range map[string][]byte{"noise": noise(n), "letters": letters(n)} {
			sealed := sealAll(c, testID, testKey, body, receiver{3, testBAL.wrap()})
			got, err := unsealAll(c, testID, testKey, sealed, int64(n))
			if err != nil || !bytes.Equal(got, body) {
				t.Errorf("%d octets of %s: %d back, %v", n, name, len(got), err)
			}
			if most := n + 64*(n/frameLen+4) + 200; len(sealed) > most {
				t.Errorf("%d octets of %s take %d on disk", n, name, len(sealed))
			}
			if name == "letters" && n > 1000 && len(sealed) > n/2 {
				t.Errorf("%d octets of letters take %d on disk", n, len(sealed))
			}
		}
	}
}

// TestReadAnyPart reads parts of a body at any offset and compares with the plain octets.
func TestReadAnyPart(t *testing.T) {
	c := testCodec(t)
	body := append(noise(frameLen+500), letters(2*frameLen)...)
	end, err := readEnd(memSource{bytes.NewReader(sealAll(c, testID, testKey, body))})
	if err != nil {
		t.Fatal(err)
	}
	u, err := newUnsealer(c, testID, &testKey, end, int64(len(body)))
	if err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(t *rapid.T) {
		off := rapid.IntRange(0, len(body)+10).Draw(t, "off")
		p := make([]byte, rapid.IntRange(0, 3*frameLen).Draw(t, "len"))
		n, err := u.ReadAt(p, int64(off))
		want := body[min(off, len(body)):min(off+len(p), len(body))]
		if !bytes.Equal(p[:n], want) || (n < len(p)) != (err == io.EOF) {
			t.Fatalf("%d octets at %d: %d, %v", len(p), off, n, err)
		}
	})
	if err := iotest.TestReader(io.NewSectionReader(u, 0, 5000), body[:5000]); err != nil {
		t.Error(err)
	}
	u.release()
	if _, err := u.ReadAt(make([]byte, 1), 0); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("read after release: %v", err)
	}
}

// TestAlteredBodies changes a sealed body in every way an attacker with the disk could: nothing wrong is ever read.
func TestAlteredBodies(t *testing.T) {
	c := testCodec(t)
	body := slices.Concat(noise(frameLen), noise(frameLen), letters(1000))
	sealed := sealAll(c, testID, testKey, body, receiver{3, testBAL.wrap()})
	refused := func(name string, id uint64, key secret, b []byte) {
		t.Helper()
		if got, err := unsealAll(c, id, key, b, int64(len(body))); !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrVersion) {
			t.Errorf("%s: %d octets, %v", name, len(got), err)
		}
	}
	f1, f2 := sealed[:maxSealed], sealed[maxSealed:2*maxSealed]
	rest := sealed[2*maxSealed:]
	refused("swapped frames", testID, testKey, slices.Concat(f2, f1, rest))
	refused("repeated frame", testID, testKey, slices.Concat(f1, f1, rest))
	refused("frame left out", testID, testKey, slices.Concat(f1, rest))
	refused("frame added", testID, testKey, slices.Concat(f1, f2, f2, rest))
	refused("another name", testID+1, testKey, sealed)
	refused("another key", testID, secret{1, 2, 4}, sealed)
	other := sealAll(c, testID, secret{5}, body, receiver{3, testBAL.wrap()})
	refused("frame of another body", testID, testKey, slices.Concat(other[:maxSealed], sealed[maxSealed:]))
	refused("end of another body", testID, testKey, slices.Concat(sealed[:2*maxSealed], other[2*maxSealed:]))
	for _, n := range []int{0, 1, footLen, len(sealed) / 2, len(sealed) - 1} {
		refused("cut off", testID, testKey, sealed[:n])
	}
	refused("octet added", testID, testKey, append(bytes.Clone(sealed), 0))
	refused("octet before", testID, testKey, append([]byte{0}, sealed...))
	b := bytes.Clone(sealed)
	for i := 0; i < len(b); i++ {
		if i > 100 && i+500 < 2*maxSealed {
			i += 499 // not each of the many octets of the frames
		}
		b[i] ^= 0x10
		refused("altered octet", testID, testKey, b)
		b[i] ^= 0x10
	}
	b[len(b)-1] = 9
	if _, err := unsealAll(c, testID, testKey, b, int64(len(body))); !errors.Is(err, ErrVersion) || !strings.Contains(err.Error(), "version 9") {
		t.Errorf("another version: %v", err)
	}
}

func TestWrappedKeys(t *testing.T) {
	c := testCodec(t)
	two := newBALKey(secret{8})
	sealed := sealAll(c, testID, testKey, []byte("x"), receiver{3, testBAL.wrap()}, receiver{4, two.wrap()})
	end, err := readEnd(memSource{bytes.NewReader(sealed)})
	if err != nil {
		t.Fatal(err)
	}
	h, err := end.header(testID)
	if err != nil || len(h.to) != 2 || !h.time.Equal(testAt) || h.verify(&testKey) != nil {
		t.Fatalf("%+v, %v", h, err)
	}
	for i, k := range []*balKey{testBAL, two} {
		if got, err := h.to[i].unwrap(testID, k.wrap()); err != nil || got != testKey {
			t.Errorf("receiver %d: %v", i, err)
		}
		if _, err := h.to[i].unwrap(testID+1, k.wrap()); !errors.Is(err, ErrCorrupt) {
			t.Errorf("receiver %d, another body: %v", i, err)
		}
		if _, err := h.to[1-i].unwrap(testID, k.wrap()); !errors.Is(err, ErrCorrupt) {
			t.Errorf("key of the other receiver: %v", err)
		}
	}
	h.to[0].bal = 4
	if _, err := h.to[0].unwrap(testID, testBAL.wrap()); !errors.Is(err, ErrCorrupt) {
		t.Errorf("under another BAL: %v", err)
	}
}

// vector is a sealed body written by the first program of its version: it must open for ever.
type vector struct {
	About   string
	ID      uint64
	Key     string // content key, hex
	BAL     uint32
	BALKey  string // hex
	Time    int64
	Body    string // hex of octets repeated Times
	Times   int
	Sealed  string // file beside this one
	Comment string `json:",omitempty"`
}

func hexSecret(t testing.TB, s string) secret {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != keyLen {
		t.Fatalf("key %q: %v", s, err)
	}
	return secret(b)
}

// TestVectors opens what stands in testdata; MSSD_WRITE_VECTORS=1 writes it, once for a version.
func TestVectors(t *testing.T) {
	c := testCodec(t)
	dir := filepath.Join("testdata", "v1")
	text, err := os.ReadFile(filepath.Join(dir, "bodies.json"))
	if err != nil {
		t.Fatal(err)
	}
	var vectors []vector
	if err := json.Unmarshal(text, &vectors); err != nil || len(vectors) == 0 {
		t.Fatal(err)
	}
	for _, v := range vectors {
		t.Run(v.About, func(t *testing.T) {
			part, err := hex.DecodeString(v.Body)
			if err != nil {
				t.Fatal(err)
			}
			body, key, bal := bytes.Repeat(part, v.Times), hexSecret(t, v.Key), newBALKey(hexSecret(t, v.BALKey))
			file := filepath.Join(dir, v.Sealed)
			if os.Getenv("MSSD_WRITE_VECTORS") != "" {
				if err := os.WriteFile(file, sealAll(c, v.ID, key, body, receiver{BALID(v.BAL), bal.wrap()}), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			sealed, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			end, err := readEnd(memSource{bytes.NewReader(sealed)})
			if err != nil {
				t.Fatal(err)
			}
			h, err := end.header(v.ID)
			if err != nil || len(h.to) != 1 || h.to[0].bal != BALID(v.BAL) || h.time.Unix() != v.Time {
				t.Fatalf("header %+v, %v", h, err)
			}
			if got, err := h.to[0].unwrap(v.ID, bal.wrap()); err != nil || got != key {
				t.Errorf("content key: %v", err)
			}
			if got, err := unsealAll(c, v.ID, key, sealed, int64(len(body))); err != nil || !bytes.Equal(got, body) {
				t.Errorf("body: %d octets, %v", len(got), err)
			}
		})
	}
}

// FuzzUnseal gives the reader hostile files, also with a right table: no panic, bounded, and what is read is what
// was written.
func FuzzUnseal(f *testing.F) {
	c := testCodec(f)
	body := letters(500)
	f.Add(sealAll(c, testID, testKey, body, receiver{3, testBAL.wrap()}))
	f.Add(sealAll(c, testID, testKey, nil))
	f.Add([]byte("\x00\x00\x00\x35\x00\x00\x00\x11\xff\xff\xff\xffmsb\x01"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if got, err := unsealAll(c, testID, testKey, b, -1); err == nil && len(got) != 0 && !bytes.Equal(got, body) {
			t.Errorf("read %d octets that nobody wrote", len(got))
		}
		// The same octets as a table under a right seal.
		s := newSealer(c, testID, testKey)
		defer s.release()
		*s.out = s.seal(bytes.Clone(b), 0, true)
		s.table = len(*s.out)
		if s.table > maxTable {
			return
		}
		s.address(testAt, nil)
		_, _ = unsealAll(c, testID, testKey, *s.out, -1)
		_, _ = parseHeader(b)
		_, _ = decodeSlot(1, b)
	})
}

// pdfMail is what most mail is made of: base64 lines of octets that cannot be compressed.
func pdfMail(n int) []byte {
	e := base64.StdEncoding.EncodeToString(noise(n))
	var b []byte
	for len(e) > 76 && len(b) < n {
		b, e = append(append(b, e[:76]...), "\r\n"...), e[76:]
	}
	return b
}

func BenchmarkSealed(b *testing.B) {
	c := testCodec(b)
	for _, size := range []int{5 << 10, 200 << 10} {
		for name, body := range map[string][]byte{"base64": pdfMail(size), "noise": noise(size), "letters": letters(size)} {
			sealed := sealAll(c, testID, testKey, body, receiver{3, testBAL.wrap()})
			b.Run(fmt.Sprintf("write/%s/%dKB", name, size>>10), func(b *testing.B) {
				b.SetBytes(int64(len(body)))
				for b.Loop() {
					sealAll(c, testID, testKey, body, receiver{3, testBAL.wrap()})
				}
			})
			b.Run(fmt.Sprintf("read/%s/%dKB", name, size>>10), func(b *testing.B) {
				b.SetBytes(int64(len(body)))
				p := make([]byte, 32<<10)
				for b.Loop() {
					end, err := readEnd(memSource{bytes.NewReader(sealed)})
					if err != nil {
						b.Fatal(err)
					}
					u, err := newUnsealer(c, testID, &testKey, end, int64(len(body)))
					if err != nil {
						b.Fatal(err)
					}
					for off := 0; off < len(body); off += len(p) {
						if _, err := u.ReadAt(p, int64(off)); err != nil && err != io.EOF {
							b.Fatal(err)
						}
					}
					u.release()
				}
			})
		}
	}
}
