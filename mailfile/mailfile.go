// Package mailfile keeps mail in files that other programs read: a Maildir, or a ZIP of .eml files.
//
// mssd bal export gives a Writer each mailbox and then each message; Close completes the files under their name. mssd
// bal import opens a Source, which finds out what it is and yields mailboxes and messages one after the other. Beside
// the mail stands a manifest (manifest.go) with what the format itself cannot say; a Source does without one too.
//
// Invariants: nothing stands under the final name before all of it is written and synced; the octets of a message are
// written and read exactly as they are, but for the line ends that CRLF mends; a message is never held in memory.
//
// It knows no BAL, no store and no daemon, and does not look into messages.
//
// Security: a source may be hostile. It is opened without following symbolic links, only regular files are read,
// names are cleaned, sizes, counts and depths are bounded, what a manifest says of octets is not believed, and nothing
// of a source is ever written to a path. Names of mailboxes that are written are made harmless, for what unpacks them.
//
// Standards: Maildir (https://cr.yp.to/proto/maildir.html), Maildir++, APPNOTE.TXT (ZIP, ZIP64), modified UTF-7
// (RFC 3501, Section 5.1.3), RFC 6154 (special use).
package mailfile

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// Head says whose mail it is.
type Head struct {
	Address  string    `json:"address"`
	Exported time.Time `json:"exported"`
	Messages int64     `json:"messages"` // expected
}

// Mailbox is a mailbox in the sense of IMAP.
type Mailbox struct {
	Name        string `json:"name"` // UTF-8, "/" between levels
	SpecialUse  string `json:"special_use,omitempty"`
	Subscribed  bool   `json:"subscribed,omitempty"`
	UIDValidity uint32 `json:"uid_validity,omitempty"`
}

// Message is what is known of a message beside its octets.
type Message struct {
	Mailbox     string    `json:"mailbox"`
	UID         uint32    `json:"uid,omitempty"`
	UIDValidity uint32    `json:"uid_validity,omitempty"`
	Flags       []string  `json:"flags,omitempty"` // system flags: `\Seen`
	Keywords    []string  `json:"keywords,omitempty"`
	Date        time.Time `json:"internal_date"`
	SaveDate    time.Time `json:"save_date,omitzero"`
	Size        int64     `json:"size"`
	SHA256      string    `json:"sha256,omitempty"`     // of all octets, in hexadecimal
	ID          string    `json:"mssd_id,omitempty"`    // in the store it came from, and its trace
	MessageID   string    `json:"message_id,omitempty"` // of its header
	// BareLF: it holds line ends that are no CRLF and came so, so that they are not to be mended.
	BareLF bool `json:"bare_lf,omitempty"`
	// Damaged: the octets are not all there.
	Damaged bool `json:"damaged,omitempty"`
	// File names it for people: a path inside the source. Not in the manifest, which has its own.
	File string `json:"-"`
}

// A Writer takes an export: Head, every mailbox, every message, then Close, or Abort at any time.
type Writer interface {
	Head(Head) error
	Mailbox(Mailbox) error
	// Message reads body to its end. An error of body is returned as a *ReadError: the message is then not among
	// those of the export, and the next one may follow. sha256 is that of the octets.
	Message(m Message, body io.Reader) (sha256 string, err error)
	// Close makes the export durable and gives it its name.
	Close() error
	// Abort removes what was written. After Close it does nothing.
	Abort()
}

// A Source yields mailboxes and messages.
type Source interface {
	// What says what was found, for people.
	What() string
	Mailboxes() []Mailbox
	// Total is how many messages there are.
	Total() int64
	// Each calls fn for each message, mailbox by mailbox, until it returns an error. open yields the octets as they
	// are; what cannot be read is an error of open or of reading.
	Each(fn func(m Message, open func() (io.ReadCloser, error)) error) error
	// Left counts what was left alone: links, devices, files that are no mail.
	Left() int64
	Close() error
}

// Bounds of what is read.
const (
	MaxMessage   = 1 << 30 // octets of one message
	maxMailboxes = 10000
	maxMessages  = 10_000_000
	maxDepth     = 50
	maxName      = 1000      // octets of the name of a mailbox
	maxLine      = 64 << 10  // octets of a line of the manifest
	maxManifest  = 8 << 30   // octets of a manifest
	maxStash     = 1 << 20   // lines of a manifest that are out of order
	maxStashed   = 256 << 20 // octets of these
	maxDirectory = 160 << 20 // octets of a ZIP's list of entries: some 1.5 million
	maxSmall     = 1 << 20   // octets of dovecot-keywords and subscriptions
)

// ErrSource says that a source is not what can be imported.
var ErrSource = errors.New("no mail that can be imported")

var errTooLarge = fmt.Errorf("it is larger than %d octets", int64(MaxMessage))

// ReadError is a fault of what a Writer reads from.
type ReadError struct{ Err error }

func (e *ReadError) Error() string { return e.Err.Error() }
func (e *ReadError) Unwrap() error { return e.Err }

// Open finds out what a path is: a ZIP, or a folder with Maildirs or .eml files.
func Open(path string) (Source, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	switch {
	case st.IsDir():
		return openFolder(path)
	case st.Mode().IsRegular():
		return openZip(path)
	}
	return nil, fmt.Errorf("%s: %w; expected a ZIP or a folder", path, ErrSource)
}

// reading marks the errors of a reader, so that they are told from those of the writer.
type reading struct{ r io.Reader }

func (r reading) Read(p []byte) (int, error) {
	n, err := r.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = &ReadError{err}
	}
	return n, err
}

// partName is where an export grows until it is complete.
func partName(dest string) string { return filepath.Clean(dest) + ".part" }

// free makes sure that nothing stands under a name.
func free(dest string) error {
	if _, err := os.Lstat(dest); err == nil {
		return fmt.Errorf("%s: is there already; move it away or name another one", dest)
	} else if !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// Ready reports whether an export could be begun at dest: nothing is there, and a folder to make it in is. Nothing is
// written.
func Ready(dest string) error {
	if err := free(dest); err != nil {
		return err
	}
	parent := filepath.Dir(filepath.Clean(dest))
	switch st, err := os.Stat(parent); {
	case errors.Is(err, os.ErrNotExist):
		return fmt.Errorf("%s: there is no such folder; make it first, or name another place", parent)
	case err != nil:
		return err
	case !st.IsDir():
		return fmt.Errorf("%s: is no folder; name another place", parent)
	}
	if err := unix.Access(parent, unix.W_OK|unix.X_OK); err != nil {
		return fmt.Errorf("%s: nothing can be written there: %w", parent, err)
	}
	return nil
}

// lock refuses a file that another export is writing. It lasts until the file is closed.
func lock(f *os.File) error {
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return fmt.Errorf("%s: another export is writing this", f.Name())
	}
	return nil
}

// publish gives what is written and synced its name, and makes that durable. What came there meanwhile stays.
func publish(part, dest string) error {
	err := unix.Renameat2(unix.AT_FDCWD, part, unix.AT_FDCWD, dest, unix.RENAME_NOREPLACE)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) { // a file system without this
		if err = free(dest); err == nil {
			err = os.Rename(part, dest)
		}
	}
	if err != nil {
		return fmt.Errorf("%s: %w", dest, err)
	}
	d, err := os.Open(filepath.Dir(dest))
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
