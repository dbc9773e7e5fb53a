package admin

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"
)

// The mail of a BAL travels between daemon and command as a row of frames, whatever the command makes of it: the
// daemon never opens a path that a client names, the command never opens the store. A frame is one octet that names
// its kind, four octets of length (big endian, at most 64 KiB) and the payload: octets of a message (frameData), or a
// JSON document (all others).
//
//	export, daemon to command:  head mailbox* (message data* done)* end
//	import, command to daemon:  head mailbox* (message data* done)* end
//	import, daemon to command:  answer* end
//
// In place of any frame a daemon that cannot go on sends a problem, which is the last. A row without end or problem
// broke off. An import gets one answer for each message, in the order of the messages; at most transferWindow of them
// wait for a commit.
const (
	frameHead    = 'H' // TransferHead
	frameMailbox = 'B' // TransferMailbox
	frameMessage = 'M' // TransferMessage
	frameData    = 'D' // octets
	frameDone    = 'E' // TransferDone
	frameAnswer  = 'A' // TransferAnswer
	frameEnd     = 'Z' // TransferEnd
	frameProblem = 'F' // Problem
)

const (
	maxFrame       = 64 << 10        // octets of a payload
	transferStall  = 5 * time.Minute // a peer that moves nothing for so long is gone
	transferWindow = 8               // messages of an import that wait for their commit
	maxTransfers   = 4               // at once
)

// TransferHead begins a row of frames.
type TransferHead struct {
	Address  string `json:"address,omitempty"`
	Messages int64  `json:"messages"` // how many to expect; messages may come and go meanwhile
	Octets   int64  `json:"octets"`
	// Into and OverQuota are for an import: the name above all its mailboxes, and whether quotas count.
	Into      string `json:"into,omitempty"`
	OverQuota bool   `json:"over_quota,omitempty"`
}

// TransferMailbox is one mailbox.
type TransferMailbox struct {
	Name        string `json:"name"`
	SpecialUse  string `json:"special_use,omitempty"`
	Subscribed  bool   `json:"subscribed,omitempty"`
	UIDValidity uint32 `json:"uid_validity,omitempty"`
}

// TransferMessage is what is known of a message beside its octets, which follow.
type TransferMessage struct {
	Mailbox   string    `json:"mailbox"`
	UID       uint32    `json:"uid,omitempty"`
	Flags     []string  `json:"flags,omitempty"` // system flags: `\Seen`
	Keywords  []string  `json:"keywords,omitempty"`
	Date      time.Time `json:"date"`                 // internal date
	SaveDate  time.Time `json:"save_date,omitzero"`   // export only
	Size      int64     `json:"size,omitempty"`       // export only
	ID        string    `json:"id,omitempty"`         // in this store and its trace; export only
	MessageID string    `json:"message_id,omitempty"` // of its header; export only
}

// TransferDone ends the octets of a message.
type TransferDone struct {
	SHA256 string `json:"sha256,omitempty"` // of all its octets, in hexadecimal; export only
	// Error says why octets are missing: the body is damaged (export), the source could not be read (import). The
	// message is then not to be kept.
	Error string `json:"error,omitempty"`
}

// What became of a message of an import.
const (
	TransferStored  = "stored"
	TransferPresent = "present" // it was there: same mailbox, internal date and octets
	TransferRefused = "refused"
)

// TransferAnswer is what became of one message of an import.
type TransferAnswer struct {
	Outcome string `json:"outcome"`
	Reason  string `json:"reason,omitempty"`
}

// TransferEnd ends a row of frames that is complete.
type TransferEnd struct {
	Messages int64 `json:"messages"`          // sent, or stored
	Present  int64 `json:"present,omitempty"` // import: there already
	Refused  int64 `json:"refused,omitempty"` // import
	Damaged  int64 `json:"damaged,omitempty"` // export: the body could not be read
}

var errFrame = errors.New("the stream between command and daemon is damaged, or they are of different versions")

// frameWriter writes frames into a buffer.
type frameWriter struct{ w *bufio.Writer }

func newFrameWriter(w io.Writer) frameWriter {
	return frameWriter{bufio.NewWriterSize(w, maxFrame+8)}
}

func (f frameWriter) frame(kind byte, payload []byte) error {
	if len(payload) > maxFrame {
		return fmt.Errorf("%w: a frame of %d octets", errFrame, len(payload))
	}
	head := [5]byte{kind}
	binary.BigEndian.PutUint32(head[1:], uint32(len(payload)))
	if _, err := f.w.Write(head[:]); err != nil {
		return err
	}
	_, err := f.w.Write(payload)
	return err
}

func (f frameWriter) doc(kind byte, doc any) error {
	b, err := json.Marshal(doc)
	if err != nil {
		return err
	}
	return f.frame(kind, b)
}

// frameReader reads frames. The payload is good until the next one.
type frameReader struct {
	r   *bufio.Reader
	buf []byte
}

func newFrameReader(r io.Reader) *frameReader {
	return &frameReader{r: bufio.NewReaderSize(r, maxFrame+8)}
}

// next reads a frame; io.ErrUnexpectedEOF where the row broke off.
func (f *frameReader) next() (kind byte, payload []byte, err error) {
	var head [5]byte
	if _, err := io.ReadFull(f.r, head[:]); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return 0, nil, err
	}
	n := binary.BigEndian.Uint32(head[1:])
	if n > maxFrame {
		return 0, nil, fmt.Errorf("%w: a frame of %d octets", errFrame, n)
	}
	if f.buf == nil {
		f.buf = make([]byte, maxFrame)
	}
	if _, err := io.ReadFull(f.r, f.buf[:n]); err != nil {
		return 0, nil, io.ErrUnexpectedEOF
	}
	return head[0], f.buf[:n], nil
}

// frameDoc takes a payload apart.
func frameDoc[T any](payload []byte) (doc T, err error) {
	if err := json.Unmarshal(payload, &doc); err != nil {
		return doc, fmt.Errorf("%w: %w", errFrame, err)
	}
	return doc, nil
}
