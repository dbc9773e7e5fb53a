package backup

import (
	"bufio"
	"bytes"
	"crypto/hmac"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"mssd/trace"
)

// What can be wrong with a backup; test with errors.Is.
var (
	ErrNotBackup = errors.New("no backup of mssd")
	ErrDamaged   = errors.New("damaged backup")
	ErrForged    = errors.New("the manifest is not signed by this store")
	ErrVersion   = errors.New("unknown format of backup")
	ErrOther     = errors.New("backups of another store")
	ErrBusy      = errors.New("another process works on this backup")
)

const (
	manifestLine = "mssd backup manifest 1"
	macWord      = "mac"
	maxManifest  = 16 << 10 // octets
)

// Manifest says what a generation is made of. It is a text of lines, a word and its values; the last one signs all
// before it.
type Manifest struct {
	Moment
	Contents
	signed []byte // what mac is of
	mac    []byte
}

// Name is that of the directory of the generation: it sorts by time.
func (m *Manifest) Name() string { return m.Moment.name() }

func (m Moment) name() string { return m.Time.UTC().Format("20060102T150405Z") + "-" + m.ID }

// field is a line of a manifest: how it is written and read.
type field struct {
	word  string
	write func(*Manifest) string
	read  func(*Manifest, string) error
}

var fields = []field{
	{"generation", func(m *Manifest) string { return m.ID }, func(m *Manifest, v string) error {
		m.ID = v
		_, err := trace.ParseID(v)
		return err
	}},
	name("store", func(m *Manifest) *string { return &m.Store }),
	{"time", func(m *Manifest) string { return m.Time.UTC().Format(time.RFC3339) }, func(m *Manifest, v string) (err error) {
		m.Time, err = time.Parse(time.RFC3339, v)
		m.Time = m.Time.UTC()
		return err
	}},
	unsigned("commits", func(m *Manifest) *uint64 { return &m.Commits }),
	unsigned("events", func(m *Manifest) *uint64 { return &m.Events }),
	{"last-id", func(m *Manifest) string { return m.LastID }, func(m *Manifest, v string) error {
		m.LastID = v
		_, err := trace.ParseID(v)
		return err
	}},
	{"highest-bal", func(m *Manifest) string { return strconv.FormatUint(uint64(m.HighestBAL), 10) }, func(m *Manifest, v string) error {
		n, err := strconv.ParseUint(v, 10, 32)
		m.HighestBAL = uint32(n)
		return err
	}},
	signed("bals", func(m *Manifest) *int64 { return &m.BALs }),
	signed("mailboxes", func(m *Manifest) *int64 { return &m.Mailboxes }),
	signed("messages", func(m *Manifest) *int64 { return &m.Messages }),
	name("master-key", func(m *Manifest) *string { return &m.MasterKey }),
	sum("VERSION", func(m *Manifest) *Sum { return &m.Version }),
	sum("keys", func(m *Manifest) *Sum { return &m.Keys }),
	sum("index.db", func(m *Manifest) *Sum { return &m.Index }),
	sum("bodies", func(m *Manifest) *Sum { return &m.List }),
	signed("body-count", func(m *Manifest) *int64 { return &m.Bodies }),
	signed("body-octets", func(m *Manifest) *int64 { return &m.Octets }),
	signed("body-damaged", func(m *Manifest) *int64 { return &m.Damaged }),
}

// name is a few octets in hex.
func name(word string, at func(*Manifest) *string) field {
	return field{word, func(m *Manifest) string { return *at(m) }, func(m *Manifest, v string) error {
		*at(m) = v
		_, err := hex.DecodeString(v)
		return err
	}}
}

func unsigned(word string, at func(*Manifest) *uint64) field {
	return field{word, func(m *Manifest) string { return strconv.FormatUint(*at(m), 10) }, func(m *Manifest, v string) (err error) {
		*at(m), err = strconv.ParseUint(v, 10, 64)
		return err
	}}
}

func signed(word string, at func(*Manifest) *int64) field {
	return field{word, func(m *Manifest) string { return strconv.FormatInt(*at(m), 10) }, func(m *Manifest, v string) (err error) {
		if *at(m), err = strconv.ParseInt(v, 10, 64); err == nil && *at(m) < 0 {
			err = strconv.ErrRange
		}
		return err
	}}
}

func sum(word string, at func(*Manifest) *Sum) field {
	return field{"file " + word, func(m *Manifest) string { return fmt.Sprintf("%d %s", at(m).Octets, at(m).SHA256) },
		func(m *Manifest, v string) error {
			octets, hash, _ := strings.Cut(v, " ")
			n, err := strconv.ParseInt(octets, 10, 64)
			if b, err2 := hex.DecodeString(hash); err2 != nil || len(b) != 32 || n < 0 {
				return ErrDamaged
			}
			*at(m) = Sum{n, hash}
			return err
		}}
}

// text is the manifest without its signature.
func (m *Manifest) text() []byte {
	b := append([]byte(manifestLine), '\n')
	for _, f := range fields {
		b = fmt.Appendf(b, "%s %s\n", f.word, f.write(m))
	}
	return b
}

// parseManifest reads a whole manifest. It is held to the letter: what text writes, nothing else.
func parseManifest(b []byte) (*Manifest, error) {
	if len(b) > maxManifest {
		return nil, fmt.Errorf("%w: manifest is too long", ErrDamaged)
	}
	first, _, _ := bytes.Cut(b, []byte("\n"))
	if s := string(first); s != manifestLine {
		if strings.HasPrefix(s, "mssd backup manifest ") {
			return nil, fmt.Errorf("%w: the manifest says %q, this program reads %q", ErrVersion, s, manifestLine)
		}
		return nil, fmt.Errorf("%w: manifest", ErrDamaged)
	}
	m := &Manifest{}
	rest := b[len(first)+1:]
	for _, f := range fields {
		line, after, ok := bytes.Cut(rest, []byte("\n"))
		v, has := strings.CutPrefix(string(line), f.word+" ")
		if !ok || !has || f.read(m, v) != nil || f.write(m) != v {
			return nil, fmt.Errorf("%w: manifest, at %q", ErrDamaged, f.word)
		}
		rest = after
	}
	m.signed = b[:len(b)-len(rest)]
	digits, ok := strings.CutPrefix(string(rest), macWord+" ")
	mac, err := hex.DecodeString(strings.TrimSuffix(digits, "\n"))
	if !ok || err != nil || len(mac) != 32 || fmt.Sprintf("%s %x\n", macWord, mac) != string(rest) {
		return nil, fmt.Errorf("%w: manifest, at its signature", ErrDamaged)
	}
	m.mac = mac
	return m, nil
}

// verify compares the signature with what the keys of the store make of the text.
func (m *Manifest) verify(mac func(text []byte) []byte) error {
	if !hmac.Equal(mac(m.signed), m.mac) {
		return ErrForged
	}
	return nil
}

// A list of bodies: 8 octets each of id and size of the file, 32 of SHA-256, big-endian, ascending by id. A body that the
// store could not give has the size damagedSize and zeros.
const (
	entryLen    = 8 + 8 + 32
	damagedSize = -1
)

type listWriter struct{ w *bufio.Writer }

func (l listWriter) add(b Body) error {
	if !b.Status.There() {
		b.Octets, b.Sum = damagedSize, [32]byte{}
	}
	e := make([]byte, 0, entryLen)
	e = be64(be64(e, uint64(b.ID)), uint64(b.Octets))
	_, err := l.w.Write(append(e, b.Sum[:]...))
	return err
}

// listReader reads a list in order.
type listReader struct {
	r    *bufio.Reader
	last trace.ID
}

func newListReader(r io.Reader) *listReader { return &listReader{r: bufio.NewReaderSize(r, 1<<16)} }

// next yields io.EOF at the end.
func (l *listReader) next() (Body, error) {
	var e [entryLen]byte
	if _, err := io.ReadFull(l.r, e[:]); err == io.EOF {
		return Body{}, err
	} else if err != nil {
		return Body{}, fmt.Errorf("%w: list of bodies: %w", ErrDamaged, err)
	}
	b := Body{ID: trace.ID(u64(e[:])), Status: Good, Octets: int64(u64(e[8:])), Sum: [32]byte(e[16:])}
	if b.Octets == damagedSize {
		b.Status, b.Octets = Damaged, 0
	}
	if b.ID <= l.last || b.Octets < 0 {
		return Body{}, fmt.Errorf("%w: list of bodies", ErrDamaged)
	}
	l.last = b.ID
	return b, nil
}
