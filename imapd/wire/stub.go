package wire

import (
	"bufio"
	"errors"
	"time"
)

var errStub = errors.New("wire: not yet")

// Literal is the message of an APPEND, still in the stream. Close it before the next ReadCommand.
type Literal struct {
	Size    int64
	NonSync bool // the client sends it without waiting
	Binary  bool // literal8, "~{n}" (RFC 3516)
}

// Accept asks for the octets of a synchronising literal (through ReadCommand's more). Read without it gives an error.
func (l *Literal) Accept() error { return errStub }

// Read reads the message's octets: io.EOF after Size of them, io.ErrUnexpectedEOF when the stream ends before.
func (l *Literal) Read(p []byte) (int, error) { return 0, errStub }

// Close brings the stream to the next command: it discards what was not read, unless the client was never asked to
// send it, and reads the end of the line. A *SyntaxError says that the command went on: answer BAD, store nothing.
// So call it before acting on the message. Any other error ends the connection.
func (l *Literal) Close() error { return errStub }

// ReadCommand reads one command. more is called to have "+ " sent and flushed before a synchronising literal is
// read. With a *SyntaxError the Command is not nil and holds the tag, if one could be read. A *FatalError and errors
// of br or more (io.EOF only between commands) end the connection; on a *FatalError the Command may hold the tag.
func ReadCommand(br *bufio.Reader, lim Limits, more func() error) (*Command, error) {
	return nil, errStub
}

// ReadLine reads one line outside of commands (DONE, a SASL response) of at most max octets and returns it without
// its CRLF, valid until the next read. A longer line or a bare LF is a *FatalError.
func ReadLine(br *bufio.Reader, max int) ([]byte, error) { return nil, errStub }

// ParseNone is for commands without arguments.
func ParseNone(c *Command) error { return errStub }

func ParseLogin(c *Command) (Login, error)               { return Login{}, errStub }
func ParseAuthenticate(c *Command) (Authenticate, error) { return Authenticate{}, errStub }

// DecodeSASL decodes the line that a client sends during AUTHENTICATE; cancelled is "*".
func DecodeSASL(line []byte) (data []byte, cancelled bool, err error) { return nil, false, errStub }

// ParseMailbox: CREATE (its CREATE-SPECIAL-USE and other parameters are refused), DELETE, SUBSCRIBE, UNSUBSCRIBE.
// Names come back in UTF-8; INBOX in any case is "INBOX"
func ParseMailbox(c *Command) (string, error)                 { return "", errStub }
func ParseTwoMailboxes(c *Command) (from, to string, _ error) { return "", "", errStub }
func ParseSelect(c *Command) (Select, error)                  { return Select{}, errStub }
func ParseList(c *Command) (List, error)                      { return List{}, errStub }
func ParseStatus(c *Command) (Status, error)                  { return Status{}, errStub }
func ParseAppend(c *Command) (Append, error)                  { return Append{}, errStub }
func ParseFetch(c *Command) (Fetch, error)                    { return Fetch{}, errStub }
func ParseStore(c *Command) (Store, error)                    { return Store{}, errStub }
func ParseCopy(c *Command) (Copy, error)                      { return Copy{}, errStub }
func ParseSearch(c *Command) (Search, error)                  { return Search{}, errStub }
func ParseUIDSet(c *Command) (Set, error)                     { return Set{}, errStub }
func ParseID(c *Command) ([]IDField, error)                   { return nil, errStub }
func ParseEnable(c *Command) ([]string, error)                { return nil, errStub }

// ParseFlag reads one flag name: a system flag (any case) or a keyword. \Recent and other names with a backslash are refused.
func ParseFlag(s string) (system Flag, keyword string, err error) { return 0, "", errStub }

// Resolve turns the set into ascending, disjoint, merged ranges, "*" being max: the number of messages, or the
// largest UID. With max 0 nothing is "*" and ranges with it are dropped. Numbers above max stay.
func (s Set) Resolve(max uint32) []Range { return nil }

// MatchList reports whether the mailbox name matches a LIST pattern, in linear time.
// delim 0: flat names. INBOX matches without case.
func MatchList(pattern, name string, delim byte) bool { return false }

// EncodeUTF7 / DecodeUTF7: modified UTF-7 (RFC 3501, Section 5.1.3), strict.
func EncodeUTF7(name string) string          { return "" }
func DecodeUTF7(name string) (string, error) { return "", errStub }

func AppendQuoted(dst []byte, s string) []byte                      { return dst }
func AppendString(dst []byte, s string) []byte                      { return dst } // quoted, or a literal when it must be
func AppendNString(dst []byte, s string, ok bool) []byte            { return dst } // NIL when !ok
func AppendAString(dst []byte, s string) []byte                     { return dst }
func AppendMailbox(dst []byte, name string, utf8 bool) []byte       { return dst }
func AppendLiteralHead(dst []byte, n int64) []byte                  { return dst } // "{n}" CRLF
func AppendFlags(dst []byte, system Flag, keywords []string) []byte { return dst } // with its parentheses
func AppendSet(dst []byte, ranges []Range) []byte                   { return dst } // 1:3,5
// AppendSetFunc is AppendSet over n ranges that at gives (a store's runs, without a copy).
func AppendSetFunc(dst []byte, n int, at func(i int) Range) []byte { return dst }
func AppendNumber(dst []byte, n uint64) []byte                     { return dst }
func AppendInternalDate(dst []byte, t time.Time) []byte            { return dst } // with its quotes

// ListData is one LIST or LSUB response.
type ListData struct {
	Command    string   // "LIST" or "LSUB"
	Attributes []string // with backslash, as given
	Delim      byte     // 0: NIL
	Name       string
	ChildInfo  bool // ("CHILDINFO" ("SUBSCRIBED")), RFC 5258
}

func AppendList(dst []byte, d ListData, utf8 bool) []byte { return dst } // a whole line

// StatusValue is one item of a STATUS response.
type StatusValue struct {
	Item  StatusItem
	Value uint64
}

func AppendStatus(dst []byte, name string, utf8 bool, values []StatusValue) []byte { return dst } // a whole line

// ESearch is an ESEARCH response (RFC 4731). Min, Max: left out when 0 or not asked for.
type ESearch struct {
	Tag      string
	UID      bool
	Return   SearchReturn
	Min, Max uint32
	Count    uint32
	All      []Range // ascending; left out when empty
	ModSeq   uint64  // 0: left out
}

func AppendESearch(dst []byte, e ESearch) []byte { return dst } // a whole line

// AppendSearch appends " n" for each number of the ranges: the middle of a SEARCH response. Expands: the server's own runs only.
func AppendSearch(dst []byte, ranges []Range) []byte { return dst }

// AppendFetchHead appends "* n FETCH (".
func AppendFetchHead(dst []byte, seq uint32) []byte { return dst }

// AppendCapability appends "CAPABILITY IMAP4rev1 …" without line end, for the untagged response and the code.
func AppendCapability(dst []byte, caps []string) []byte { return dst }

// AppendCopyUID appends "[COPYUID v src dst]" (RFC 4315). Never call it with empty sets.
func AppendCopyUID(dst []byte, validity uint32, src, to []Range) []byte { return dst }

// AppendAppendUID appends "[APPENDUID v uid]".
func AppendAppendUID(dst []byte, validity, uid uint32) []byte { return dst }
