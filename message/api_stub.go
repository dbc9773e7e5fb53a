package message

import (
	"errors"
	"io"
)

var errStub = errors.New("message: not yet")

type wireParts struct{}

type Scanner struct{ n int64 }

func NewScanner() *Scanner                                        { return &Scanner{} }
func (s *Scanner) Write(p []byte) (int, error)                    { s.n += int64(len(p)); return len(p), nil }
func (s *Scanner) Finish() (*Meta, Text)                          { return &Meta{Size: s.n}, Text{} }
func Scan(r io.Reader) (*Meta, Text, error)                       { return nil, Text{}, errStub }
func Fold(dst, s []byte) []byte                                   { return append(dst, s...) }
func (m *Meta) AppendBinary(b []byte) ([]byte, error)             { return b, errStub }
func ParseMeta(b []byte) (*Meta, error)                           { return nil, errStub }
func (t Text) AppendBinary(b []byte) ([]byte, error)              { return b, errStub }
func ParseText(b []byte) (Text, error)                            { return Text{}, errStub }
func SelectFields(header []byte, names []string, not bool) []byte { return nil }

type Place uint8

const (
	PlaceText Place = iota
	PlaceBody
	PlaceField
)

func SearchBlob(r io.Reader, needle []byte, place Place, field string) (bool, error) {
	return false, errStub
}
