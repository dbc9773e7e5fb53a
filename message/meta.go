package message

import (
	"log/slog"
	"strings"
	"time"
)

// Limits of the scanner. What lies beyond is skipped and marked in Meta.Faults.
const (
	MaxDepth  = 50        // nested multiparts and messages
	MaxParts  = 5000      // parts of one message
	MaxHeader = 128 << 10 // octets of one header block that are parsed
	MaxText   = 32 << 10  // octets of Text, header and body together
)

// metaVersion grows when the scanner's answers change, so that the store can derive old ones again.
const metaVersion = 1

// MetaVersion is the version that Scan and ParseMeta yield.
const MetaVersion uint8 = metaVersion

// Meta is what the scanner found out about one message.
type Meta struct {
	Version   uint8
	Size      int64     // octets of the blob
	HeaderLen int64     // octets of its top header, the empty line included
	SentDate  time.Time // Date field, in its own zone; zero when missing or unreadable
	MessageID string    // Message-ID field with its angle brackets; "" when missing

	// IMAP wire form, parenthesised, ready to send (RFC 9051, Section 7.5.2). 8-bit texts stand as literals,
	// encoded words (RFC 2047) are kept as they are.
	Envelope, Body, BodyStructure []byte

	Root        *Part
	Faults      Fault
	Attachments []Attachment
}

// Part is one node of the MIME tree. Offsets count from the first octet of the blob.
type Part struct {
	Type, Subtype string // lower case; "text", "plain" when the message names none
	Encoding      string // Content-Transfer-Encoding, lower case; "7bit" when the message names none
	Charset       string // of text parts, as written; "" when the message names none
	Header        int64  // offset of the header
	HeaderLen     int64  // octets of the header, the empty line included
	Offset        int64  // offset of the body
	Len           int64  // octets of the body, as transferred
	Lines         int64  // line ends in the body
	Parts         []*Part
	Embedded      *Part // the message inside a message/rfc822 part; nil for others

	wire *wireParts // texts for BODYSTRUCTURE, between scanning and Finish
}

// Multipart reports whether p has parts of its own.
func (p *Part) Multipart() bool { return len(p.Parts) > 0 }

// End is the offset after the last octet of the body.
func (p *Part) End() int64 { return p.Offset + p.Len }

// Attachment is a part that a person would see as a file.
type Attachment struct {
	Name string // decoded, "" when it has none; identifies a patient: never log it
	Type string // "application/pdf"
	Size int64  // octets as transferred
	Part []int  // IMAP section number
}

// LogValue hides the name.
func (a Attachment) LogValue() slog.Value {
	return slog.GroupValue(slog.String("type", a.Type), slog.Int64("size", a.Size))
}

// LogValue hides all that could identify a person.
func (m *Meta) LogValue() slog.Value {
	if m == nil {
		return slog.StringValue("none")
	}
	return slog.GroupValue(slog.Int64("size", m.Size), slog.Int("attachments", len(m.Attachments)),
		slog.String("faults", m.Faults.String()))
}

// Part finds a part by its IMAP section number (RFC 9051, Section 6.4.5.1): the empty path is the message
// itself; 1 of a message without parts is its body; numbers below a message/rfc822 part go on in the message
// it holds.
func (m *Meta) Part(path []int) (*Part, bool) {
	p := m.Root
	if p == nil {
		return nil, false
	}
	// inMessage: the numbers count the parts of the message p; else p is a part that was reached by number.
	inMessage := true
	for _, n := range path {
		if !inMessage {
			if p.Embedded != nil {
				p, inMessage = p.Embedded, true
			}
		}
		switch {
		case n < 1:
			return nil, false
		case len(p.Parts) > 0:
			if n > len(p.Parts) {
				return nil, false
			}
			p = p.Parts[n-1]
		case inMessage && n == 1:
			// the only part of a message that is not a multipart: its body
		default:
			return nil, false
		}
		inMessage = false
	}
	return p, true
}

// Fault is a set of things that are wrong with the form of a message.
type Fault uint32

const (
	FaultHeader        Fault = 1 << iota // a header line that is no field
	FaultHeaderLong                      // a header block longer than MaxHeader; the rest was not parsed
	FaultHeaderEnd                       // a part's header ran into a delimiter, or the message ended in it
	FaultDepth                           // nested deeper than MaxDepth; shown as application/octet-stream
	FaultParts                           // more than MaxParts parts; the rest is not shown
	FaultNoBoundary                      // a multipart without a boundary parameter
	FaultNoParts                         // a multipart in which no part begins
	FaultUnclosed                        // a multipart without its closing delimiter
	FaultBoundaryTail                    // a delimiter line with something after the boundary
	FaultBoundaryLong                    // a boundary longer than the 70 characters of RFC 2046
	FaultParameter                       // strict and lenient reading of a parameter differ
	FaultRepeated                        // a field or parameter that may stand once stands twice
	FaultContentType                     // a Content-Type that cannot be read or is too long; see describeType
	FaultEncoding                        // a multipart or message in base64 or quoted-printable
	FaultStructureLong                   // texts of BODYSTRUCTURE left out because there were too many
	FaultNUL                             // a header with a NUL octet
)

var faultNames = [...]string{
	"header", "header-long", "header-end", "depth", "parts", "no-boundary", "no-parts", "unclosed",
	"boundary-tail", "boundary-long", "parameter", "repeated", "content-type", "encoding", "structure-long", "nul",
}

// String names the faults, with commas; "" for none.
func (f Fault) String() string {
	var names []string
	for i, n := range faultNames {
		if f&(1<<i) != 0 {
			names = append(names, n)
		}
	}
	return strings.Join(names, ",")
}
