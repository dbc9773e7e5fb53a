package directory

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// A kept image: imageMagic, length of the header (32 bits, big endian), header (JSON), arena, SHA-256 of all before.
const (
	imageMagic = "mssd directory image 1\n"
	maxHeader  = 1 << 16 // octets
)

type imageHeader struct {
	Source     string         `json:"source"`
	Generation uint64         `json:"generation"`
	Generated  time.Time      `json:"generated"`
	Stamp      string         `json:"stamp,omitempty"`
	Faults     int            `json:"faults,omitempty"`
	FirstFault string         `json:"first_fault,omitempty"`
	Kinds      map[string]int `json:"kinds"`
	Rows       int            `json:"rows"`
	Octets     int            `json:"octets"` // of the arena
}

func imagePath(dir, feed string) string { return filepath.Join(dir, feed+".image") }

// saveImage writes an image beside the former one, then takes its place. "" keeps nothing.
func saveImage(dir, feed string, img *image) (err error) {
	if dir == "" {
		return nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	header, err := json.Marshal(imageHeader{img.source, img.generation, img.generated, img.stamp, img.faults,
		img.firstFault, img.kinds, img.n, len(img.arena)})
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, feed+".new*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = f.Close()
			_ = os.Remove(f.Name())
		}
	}()
	sum := sha256.New()
	head := binary.BigEndian.AppendUint32([]byte(imageMagic), uint32(len(header)))
	for _, part := range [][]byte{head, header, img.arena} {
		sum.Write(part)
		if _, err = f.Write(part); err != nil {
			return err
		}
	}
	if _, err = f.Write(sum.Sum(nil)); err != nil {
		return err
	}
	if err = f.Sync(); err != nil {
		return err
	}
	if err = f.Close(); err != nil {
		return err
	}
	if err = os.Rename(f.Name(), imagePath(dir, feed)); err != nil {
		return err
	}
	return syncDir(dir)
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// loadImage reads a kept image; nil if there is none. The error names the file.
func loadImage(dir, feed string) (*image, error) {
	if dir == "" {
		return nil, nil
	}
	path := imagePath(dir, feed)
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxArena+maxHeader+1024))
	if err == nil {
		var img *image
		if img, err = parseImage(data); err == nil {
			return img, nil
		}
	}
	return nil, fmt.Errorf("%s: %w", path, err)
}

func parseImage(data []byte) (*image, error) {
	if !bytes.HasPrefix(data, []byte(imageMagic)) || len(data) < len(imageMagic)+4+sha256.Size {
		return nil, fmt.Errorf("%w: not a directory image of this version", ErrImage)
	}
	body, sum := data[:len(data)-sha256.Size], data[len(data)-sha256.Size:]
	if got := sha256.Sum256(body); !bytes.Equal(got[:], sum) {
		return nil, fmt.Errorf("%w: checksum differs", ErrImage)
	}
	rest := body[len(imageMagic):]
	n := binary.BigEndian.Uint32(rest)
	rest = rest[4:]
	if n > maxHeader || int(n) > len(rest) {
		return nil, fmt.Errorf("%w: header too long", ErrImage)
	}
	var h imageHeader
	if err := json.Unmarshal(rest[:n], &h); err != nil {
		return nil, fmt.Errorf("%w: header: %w", ErrImage, err)
	}
	arena := rest[n:]
	// A row takes its seven lengths at least.
	if h.Octets != len(arena) || h.Rows < 0 || h.Rows > len(arena)/entryFields {
		return nil, fmt.Errorf("%w: rows are not as their header says", ErrImage)
	}
	b := builder{arena: arena, n: h.Rows, kinds: h.Kinds}
	img, err := b.image()
	if err != nil {
		return nil, err
	}
	img.source, img.generation, img.generated = h.Source, h.Generation, h.Generated
	img.stamp, img.faults, img.firstFault = h.Stamp, h.Faults, h.FirstFault
	return img, nil
}
