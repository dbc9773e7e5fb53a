package mailfile

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"hash"
	"io"
	"strings"
)

// ErrChanged says that a message is not the one that was exported.
var ErrChanged = errors.New("its octets are not those that were exported, as the SHA-256 of the manifest says: the file was changed or " +
	"damaged (without the manifest it is imported as it is)")

// Verified reads a message to its end and then fails with ErrChanged when its octets are others than the manifest tells.
// sum is Message.SHA256; "" none was told.
func Verified(r io.Reader, sum string) io.Reader {
	if sum == "" {
		return r
	}
	return &verified{r, sha256.New(), sum}
}

type verified struct {
	r    io.Reader
	hash hash.Hash
	want string
}

func (v *verified) Read(p []byte) (int, error) {
	n, err := v.r.Read(p)
	v.hash.Write(p[:n])
	if errors.Is(err, io.EOF) && !strings.EqualFold(hex.EncodeToString(v.hash.Sum(nil)), v.want) {
		err = ErrChanged
	}
	return n, err
}
