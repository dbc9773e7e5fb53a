package wire

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func command(name, args string) *Command {
	return &Command{Tag: "a", Name: name, UID: strings.HasPrefix(name, "UID "), Args: []byte(args)}
}

func set(rs ...Range) Set { return Set{Ranges: rs} }

func body(label string, s Section) FetchItem {
	return FetchItem{Kind: FetchSection, Label: label, Section: s}
}

func item(k FetchKind, label string) FetchItem { return FetchItem{Kind: k, Label: label} }

// parse runs the parser of a command.
func parse(c *Command) (any, error) {
	switch strings.TrimPrefix(c.Name, "UID ") {
	case "NOOP":
		return nil, ParseNone(c)
	case "LOGIN":
		return ParseLogin(c)
	case "AUTHENTICATE":
		return ParseAuthenticate(c)
	case "CREATE":
		return ParseCreate(c)
	case "DELETE":
		return ParseMailbox(c)
	case "MYRIGHTS", "LISTRIGHTS", "SETACL":
		return ParseRights(c)
	case "GETQUOTA":
		return ParseQuotaRoot(c)
	case "RENAME":
		from, to, err := ParseTwoMailboxes(c)
		return from + " " + to, err
	case "SELECT", "EXAMINE":
		return ParseSelect(c)
	case "LIST", "LSUB":
		return ParseList(c)
	case "STATUS":
		return ParseStatus(c)
	case "APPEND", "REPLACE":
		return parseAppend(c)
	case "FETCH":
		return ParseFetch(c)
	case "STORE":
		return ParseStore(c)
	case "COPY":
		return ParseCopy(c)
	case "SEARCH":
		return ParseSearch(c)
	case "SORT":
		return ParseSort(c)
	case "THREAD":
		return ParseThread(c)
	case "EXPUNGE":
		return ParseUIDSet(c)
	case "ID":
		return ParseID(c)
	case "ENABLE":
		return ParseEnable(c)
	case "NOTIFY":
		return ParseNotify(c)
	case "COMPRESS":
		return ParseCompress(c)
	case "GETMETADATA":
		return ParseGetMetadata(c)
	case "SETMETADATA":
		return ParseSetMetadata(c)
	}
	panic(c.Name)
}

func TestParse(t *testing.T) {
	day := func(y int, m time.Month, d int) time.Time { return time.Date(y, m, d, 0, 0, 0, 0, time.UTC) }
	flag := func(f Flag) Key { return Key{Op: KeyFlag, Flag: f} }
	and := func(k ...Key) Key { return Key{Op: KeyAnd, Keys: k} }
	from := func(s string) Key { return Key{Op: KeyHeader, Field: "FROM", Text: s} }
	all := set(Range{1, 0})
	for _, tc := range []struct {
		name, args string
		want       any
	}{
		{"NOOP", "", nil},
		{"LOGIN", "SMITH SESAME", Login{"SMITH", "SESAME"}},
		{"COMPRESS", "deflate", "DEFLATE"},
		{"GETMETADATA", `"" /shared/comment`, GetMetadata{"", []string{"/shared/comment"}, -1, 0}},
		{"GETMETADATA", "(MAXSIZE 1024 DEPTH 1) inbox (/shared/comment /private/Comment)", GetMetadata{"INBOX", []string{"/shared/comment", "/private/Comment"}, 1024, 1}},
		{"GETMETADATA", `a (DEPTH infinity) ("/private")`, GetMetadata{"a", []string{"/private"}, -1, -1}},
		{"SETMETADATA", `a (/private/comment NIL /shared/x {3+}` + "\r\nnil)", SetMetadata{"a", []MetadataValue{{"/private/comment", "", false}, {"/shared/x", "nil", true}}}},
		{"LOGIN", `"a\"b\\" {3+}` + "\r\nc d", Login{`a"b\`, "c d"}},
		{"AUTHENTICATE", "GSSAPI", Authenticate{Mechanism: "GSSAPI"}},
		{"AUTHENTICATE", "plain AHRlc3QAdGVzdA==", Authenticate{"PLAIN", []byte("\x00test\x00test"), true}},
		{"AUTHENTICATE", "EXTERNAL =", Authenticate{Mechanism: "EXTERNAL", HasInitial: true}},
		{"CREATE", "owatagusiam/blurdybloop", Create{Mailbox: "owatagusiam/blurdybloop"}},
		{"DELETE", "inBox", "INBOX"},
		{"DELETE", "\"\xc3\xa9t\xc3\xa9 &- &AOk-\"", "été & é"},
		{"DELETE", `"Envoy&AOk-s"`, "Envoyés"},
		{"CREATE", `"Envoy&AOk-s" (USE (\Sent \X-Mine))`, Create{"Envoyés", []string{`\Sent`, `\X-Mine`}}},
		{"MYRIGHTS", "INBOX", Rights{Mailbox: "INBOX"}},
		{"LISTRIGHTS", "~/Mail/saved smith", Rights{Mailbox: "~/Mail/saved", Identifier: "smith"}},
		{"SETACL", `INBOX "John" +lrs`, Rights{"INBOX", "John", "+lrs"}},
		{"GETQUOTA", `"!partition/sda4"`, "!partition/sda4"},
		{"STATUS", "x (MAILBOXID DELETED-STORAGE)", Status{"x", []StatusItem{StatusMailboxID, StatusDeletedStorage}}},
		{"LIST", `"" * RETURN (MYRIGHTS)`, List{Patterns: []string{"*"}, Extended: true, ReturnMyRights: true}},
		{"SEARCH", "OLDER 3600 NOT YOUNGER 1", Search{Key: and(Key{Op: KeyOlder, Number: 3600}, not(Key{Op: KeyYounger, Number: 1}))}},
		{"SEARCH", "SAVEDON 1-Feb-2020 SAVEDATESUPPORTED EMAILID M6-a_1 THREADID T", Search{Key: and(Key{Op: KeySavedOn, Date: day(2020, 2, 1)},
			Key{Op: KeyAll}, Key{Op: KeyEmailID, Text: "M6-a_1"}, Key{Op: KeyThreadID, Text: "T"})}},
		{"FETCH", "1 (SAVEDATE EMAILID THREADID)", Fetch{Set: set(Range{1, 1}), Items: []FetchItem{item(FetchSaveDate, "SAVEDATE"),
			item(FetchEmailID, "EMAILID"), item(FetchThreadID, "THREADID")}}},
		{"RENAME", "foo {3}\r\nbar", "foo bar"},
		{"SELECT", "INBOX (CONDSTORE)", Select{Mailbox: "INBOX", CondStore: true}},
		{"SELECT", "INBOX (QRESYNC (67890007 20050715194045000 41,43:211,214:541))", Select{Mailbox: "INBOX", QResync: &QResync{
			UIDValidity: 67890007, ModSeq: 20050715194045000, Known: set(Range{41, 41}, Range{43, 211}, Range{214, 541})}}},
		{"EXAMINE", "INBOX (CONDSTORE QRESYNC (9 1 (1,3 2,5)))", Select{Mailbox: "INBOX", CondStore: true, QResync: &QResync{
			UIDValidity: 9, ModSeq: 1, MatchSeqs: set(Range{1, 1}, Range{3, 3}), MatchUIDs: set(Range{2, 2}, Range{5, 5})}}},
		{"SELECT", "x (QRESYNC (1 2 1:9 (1:3,7 4:6,20)))", Select{Mailbox: "x", QResync: &QResync{UIDValidity: 1, ModSeq: 2, Known: set(Range{1, 9}),
			MatchSeqs: set(Range{1, 3}, Range{7, 7}), MatchUIDs: set(Range{4, 6}, Range{20, 20})}}},
		{"SELECT", "x (QRESYNC (1 2))", Select{Mailbox: "x", QResync: &QResync{UIDValidity: 1, ModSeq: 2}}},
		{"LIST", `"" ""`, List{Patterns: []string{""}}},
		{"LIST", `~/Mail/ %`, List{Reference: "~/Mail/", Patterns: []string{"%"}}},
		{"LIST", `(SUBSCRIBED RECURSIVEMATCH) "" ("INBOX" Sent/%) RETURN (CHILDREN STATUS (MESSAGES UNSEEN))`, List{
			Patterns: []string{"INBOX", "Sent/%"}, Extended: true, SelectSubscribed: true, SelectRecursive: true,
			ReturnChildren: true, ReturnStatus: []StatusItem{StatusMessages, StatusUnseen}}},
		{"LIST", `(SPECIAL-USE) "" "*"`, List{Patterns: []string{"*"}, Extended: true, SelectSpecialUse: true}},
		{"LIST", `"" % RETURN (SPECIAL-USE)`, List{Patterns: []string{"%"}, Extended: true, ReturnSpecialUse: true}},
		{"STATUS", "blurdybloop (UIDNEXT messages UIDNEXT)", Status{"blurdybloop", []StatusItem{StatusUIDNext, StatusMessages}}},
		{"APPEND", `saved-messages (\seen Foo) "17-Jul-1996 02:44:25 -0700" `, Append{Mailbox: "saved-messages",
			Flags: Flags{Seen, []string{"Foo"}}, Date: time.Date(1996, 7, 17, 9, 44, 25, 0, time.UTC)}},
		{"APPEND", `x " 7-Jul-1996 02:44:25 +0000" `, Append{Mailbox: "x", Date: time.Date(1996, 7, 7, 2, 44, 25, 0, time.UTC)}},

		{"REPLACE", `4 Drafts (\Seen \Draft) `, Append{Replace: set(Range{4, 4}), Mailbox: "Drafts", Flags: Flags{System: Seen | Draft}}},
		{"UID REPLACE", `2000 Drafts `, Append{Replace: set(Range{2000, 2000}), Mailbox: "Drafts"}},
		{"FETCH", "1 (PREVIEW (LAZY) FLAGS)", Fetch{Set: set(Range{1, 1}), Items: []FetchItem{{Kind: FetchPreview, Label: "PREVIEW", Peek: true},
			item(FetchFlags, "FLAGS")}}},
		{"UID FETCH", "1 PREVIEW (CHANGEDSINCE 3)", Fetch{UID: true, Set: set(Range{1, 1}), Items: []FetchItem{{Kind: FetchPreview, Label: "PREVIEW", Peek: true}},
			ChangedSince: 3, HasChangedSince: true}},
		{"FETCH", "1 (BINARY.SIZE[2] BINARY.PEEK[1.2]<0.9> BINARY[])", Fetch{Set: set(Range{1, 1}), Items: []FetchItem{
			{Kind: FetchBinarySize, Label: "BINARY.SIZE[2]", Section: Section{Part: []int{2}}, Peek: true},
			{Kind: FetchBinary, Label: "BINARY[1.2]<0>", Section: Section{Part: []int{1, 2}}, Peek: true, Partial: &Partial{0, 9}},
			{Kind: FetchBinary, Label: "BINARY[]"}}}},
		{"FETCH", "2:4 (FLAGS BODY[HEADER.FIELDS (DATE FROM)])", Fetch{Set: set(Range{2, 4}), Items: []FetchItem{
			item(FetchFlags, "FLAGS"), body("BODY[HEADER.FIELDS (DATE FROM)]", Section{Text: SectionHeaderFields, Fields: []string{"DATE", "FROM"}})}}},
		{"UID FETCH", "4827313:4828442 FLAGS", Fetch{UID: true, Set: set(Range{4827313, 4828442}), Items: []FetchItem{item(FetchFlags, "FLAGS")}}},
		{"FETCH", "1 fast", Fetch{Set: set(Range{1, 1}), Items: []FetchItem{
			item(FetchFlags, "FLAGS"), item(FetchInternalDate, "INTERNALDATE"), item(FetchSize, "RFC822.SIZE")}}},
		{"FETCH", "1 FULL", Fetch{Set: set(Range{1, 1}), Items: []FetchItem{item(FetchFlags, "FLAGS"),
			item(FetchInternalDate, "INTERNALDATE"), item(FetchSize, "RFC822.SIZE"), item(FetchEnvelope, "ENVELOPE"), item(FetchBody, "BODY")}}},
		{"FETCH", "1 (RFC822 RFC822.HEADER rfc822.text)", Fetch{Set: set(Range{1, 1}), Items: []FetchItem{
			body("RFC822", Section{}), {Kind: FetchSection, Label: "RFC822.HEADER", Section: Section{Text: SectionHeader}, Peek: true},
			body("RFC822.TEXT", Section{Text: SectionText})}}},
		{"FETCH", "1 body.peek[4.2.2.1.mime]<0.10>", Fetch{Set: set(Range{1, 1}), Items: []FetchItem{{Kind: FetchSection,
			Label: "BODY[4.2.2.1.MIME]<0>", Section: Section{Part: []int{4, 2, 2, 1}, Text: SectionMIME}, Peek: true, Partial: &Partial{0, 10}}}}},
		{"FETCH", "1 (BODY[] BODY.PEEK[])", Fetch{Set: set(Range{1, 1}), Items: []FetchItem{body("BODY[]", Section{})}}},
		{"UID FETCH", "1:* (FLAGS) (CHANGEDSINCE 12345)", Fetch{UID: true, Set: all, Items: []FetchItem{item(FetchFlags, "FLAGS")},
			ChangedSince: 12345, HasChangedSince: true}},
		{"UID FETCH", "300:500 (FLAGS) (CHANGEDSINCE 12345 VANISHED)", Fetch{UID: true, Set: set(Range{300, 500}),
			Items: []FetchItem{item(FetchFlags, "FLAGS")}, ChangedSince: 12345, HasChangedSince: true, Vanished: true}},

		{"STORE", `2:4 +FLAGS (\Deleted)`, Store{Set: set(Range{2, 4}), Mode: StoreAdd, Flags: Flags{System: Deleted}}},
		{"STORE", `1 -flags.silent \Seen $Forwarded`, Store{Set: set(Range{1, 1}), Mode: StoreRemove, Silent: true, Flags: Flags{Seen, []string{"$Forwarded"}}}},
		{"STORE", "7,5,9 (UNCHANGEDSINCE 320162338) FLAGS ()", Store{Set: set(Range{7, 7}, Range{5, 5}, Range{9, 9}),
			UnchangedSince: 320162338, HasUnchangedSince: true}},
		{"COPY", "2:4 MEETING", Copy{Set: set(Range{2, 4}), Mailbox: "MEETING"}},
		{"UID COPY", "$ x", Copy{UID: true, Set: Set{Saved: true}, Mailbox: "x"}},
		{"UID EXPUNGE", "4294967290:4294967295,*", set(Range{4294967290, 4294967295}, Range{})},

		{"SEARCH", `FLAGGED SINCE 1-Feb-1994 NOT FROM "Smith"`, Search{Key: and(flag(Flagged),
			Key{Op: KeySince, Date: day(1994, 2, 1)}, not(from("Smith")))}},
		{"SEARCH", "CHARSET UTF-8 TEXT {6}\r\n\xd0\xbf\xd1\x80\xd0\xb8", Search{Key: and(Key{Op: KeyText, Text: "при"})}},
		{"SEARCH", "TEXT \"\xe9t\xe9\" SUBJECT {2}\r\n\x9cu", Search{Key: and(Key{Op: KeyText, Text: "été"}, Key{Op: KeyHeader, Field: "SUBJECT", Text: "œu"})}}, // JavaMail
		{"SEARCH", "RETURN (MIN COUNT) 2,4:* UNSEEN", Search{Extended: true, Return: ReturnMin | ReturnCount,
			Key: and(Key{Op: KeySeq, Set: set(Range{2, 2}, Range{4, 0})}, not(flag(Seen)))}},
		{"SEARCH", "RETURN () NEW", Search{Extended: true, Return: ReturnAll, Key: and(and(flag(Recent), not(flag(Seen))))}},
		{"UID SEARCH", `OR FROM a OR FROM b FROM c UID 5`, Search{UID: true, Key: and(
			Key{Op: KeyOr, Keys: []Key{from("a"), from("b"), from("c")}}, Key{Op: KeyUID, Set: set(Range{5, 5})})}},
		{"SEARCH", `(SMALLER 10 LARGER 0) UNKEYWORD $Junk HEADER message-id "" OLD`, Search{Key: and(
			and(Key{Op: KeySmaller, Number: 10}, Key{Op: KeyLarger}), not(Key{Op: KeyKeyword, Text: "$Junk"}),
			Key{Op: KeyHeader, Field: "MESSAGE-ID"}, not(flag(Recent)))}},
		{"SEARCH", `SENTON "12-Dec-2020" MODSEQ "/flags/\\draft" all 620162338`, Search{ModSeq: true, Key: and(
			Key{Op: KeySentOn, Date: day(2020, 12, 12)}, Key{Op: KeyModSeq, Number: 620162338})}},

		{"UID SEARCH", "RETURN (PARTIAL -1:-100 SAVE) ALL", Search{UID: true, Extended: true, Return: ReturnPartial | ReturnSave,
			Partial: Window{1, 100, true, "-1:-100"}, Key: and(Key{Op: KeyAll})}},
		{"SEARCH", "RETURN (PARTIAL 500:1 COUNT) $", Search{Extended: true, Return: ReturnPartial | ReturnCount,
			Partial: Window{1, 500, false, "500:1"}, Key: and(Key{Op: KeySeq, Set: Set{Saved: true}})}},
		{"UID FETCH", "25900:26600 (UID) (PARTIAL -1:-30 CHANGEDSINCE 98305)", Fetch{UID: true, Set: set(Range{25900, 26600}),
			Items: []FetchItem{item(FetchUID, "UID")}, ChangedSince: 98305, HasChangedSince: true, Partial: Window{1, 30, true, "-1:-30"}, HasPartial: true}},
		{"SORT", "(SUBJECT REVERSE DATE) UTF-8 ALL", Sort{Search{Key: and(Key{Op: KeyAll})}, []SortKey{{SortSubject, false}, {SortDate, true}}}},
		{"UID SORT", "RETURN () (displayfrom) us-ascii 1", Sort{Search{UID: true, Extended: true, Return: ReturnAll,
			Key: and(Key{Op: KeySeq, Set: set(Range{1, 1})})}, []SortKey{{SortDisplayFrom, false}}}},
		{"THREAD", "references UTF-8 SINCE 5-Mar-2000", Thread{Algorithm: "REFERENCES", Key: and(Key{Op: KeySince, Date: day(2000, 3, 5)})}},
		{"UID THREAD", "ORDEREDSUBJECT US-ASCII TEXT x", Thread{UID: true, Algorithm: "ORDEREDSUBJECT", Key: and(Key{Op: KeyText, Text: "x"})}},

		{"ID", `("name" "sodr" "os" NIL)`, []IDField{{Name: "name", Value: "sodr"}, {Name: "os", Nil: true}}},
		{"ID", "nil", []IDField(nil)},
		{"ENABLE", "CONDSTORE x-good-idea", []string{"CONDSTORE", "X-GOOD-IDEA"}},
	} {
		got, err := parse(command(tc.name, tc.args))
		if err != nil {
			t.Errorf("%s %q: %v", tc.name, tc.args, err)
		} else if d := cmp.Diff(tc.want, got); d != "" {
			t.Errorf("%s %q: -want +got\n%s", tc.name, tc.args, d)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	var ors strings.Builder
	for range 100 {
		ors.WriteString("NOT ")
	}
	for name, list := range map[string][]string{
		"NOOP":        {"x"},
		"COMPRESS":    {"", "(", "DEFLATE now"},
		"GETMETADATA": {"", "a", "a ()", "a b", "a /private/", "a /shared//b", "a /shared/*", "a /other/x", "(DEPTH 2) a /shared/x", "(MAXSIZE) a /shared/x", "(MAXSIZE -1) a /shared/x", "(SIZE 1) a /shared/x", "a /shared/x y", "a (/shared/x", "a /privatex/y", "a \"/shared/\xc3\xa9\""},
		"SETMETADATA": {"", "a", "a ()", "a /shared/x", "a (/shared/x)", "a (/shared/x y)", "a (/shared/x NIL", "a (/shared/x NIL) b", "a (x NIL)",
			"~{1+}\r\na (/shared/x NIL)", "a (~{9+}\r\n/shared/x NIL)", "a (/shared/x ~\"x\")", "a (/shared/x ~NIL)"},
		"LOGIN":        {"", "a", "a ", "a b c", "a  b", `"a" "b`, "a {3}\r\nb", "a \"\xff\"", `a "\b"`},
		"AUTHENTICATE": {"", "PLAIN x", "PLAIN ", "PLAIN = x", "PLAIN AB=="},
		"DELETE":       {"", "a b", "a&b", "a&AGE-", "\"a\xc3\"", "a\xc3\xa9", "\"\xc3\xa9&b\"", "\"\xc2\x85\"", "&2AA-", "{3}\r\na\nb", "a*"},
		"CREATE":       {"", "a b", "a&b", "a*", "x ()", "x (USE)", "x (USE ())", "x (USE (Sent))", "x (USE (\\Sent)", "x (FOO (\\Sent))", "x (USE (\\Sent) USE (\\Junk))"},
		"MYRIGHTS":     {"", "a b"},
		"LISTRIGHTS":   {"a", "a b c", "a b ", `a ""`},
		"SETACL":       {"a b", "a b L", "a b l-", "a b l d", "a b lrqswicda", "a b +-l", `a "" l`},
		"GETQUOTA":     {"", "a b"},
		"RENAME":       {"a", "a b c"},
		"SELECT": {"", "a (x)", "a ()", "a (CONDSTORE", "a (QRESYNC)", "a (QRESYNC ())", "a (QRESYNC (1))", "a (QRESYNC (0 1))",
			"a (QRESYNC (1 0))", "a (QRESYNC (1 2 ))", "a (QRESYNC (1 2 *))", "a (QRESYNC (1 2 $))", "a (QRESYNC (1 2 1:*))", "a (QRESYNC (1 2 1 (1)))",
			"a (QRESYNC (1 2 1 (1 2:3)))", "a (QRESYNC (1 2 1 () ))", "a (QRESYNC (1 2 1 (1 2))", "a (QRESYNC (4294967296 2))",
			"a (QRESYNC (1 2) QRESYNC (1 2))"},
		"LIST":   {`""`, `"" () `, "\"\" x RETURN", `(RECURSIVEMATCH) "" *`, `(X) "" *`, `"" * RETURN (STATUS)`, `"" "" ""`},
		"LSUB":   {`"" (a b)`, `"" % RETURN (CHILDREN)`},
		"STATUS": {"a", "a ()", "a (X)", "a (MESSAGES", "a MESSAGES"},
		"APPEND": {"x", `x (\Recent) `, `x (\Foo) `, `x "31-Feb-1996 02:44:25 -0700" `, `x "17-Jul-1996 24:44:25 -0700" `,
			`x "17-Jul-1996 02:44:25 0700" `, `x "1-Jul-1996 02:44:25 -0700" `},
		"REPLACE": {"x", "1", "1 ", "0 x ", "1:2 x ", "$ x ", "1 x (\\Recent) "},
		"FETCH": {"1", "0 FLAGS", "1: FLAGS", "1, FLAGS", "4294967296 FLAGS", "1 ()", "1 (FLAGS", "1 X", "1 (ALL)", "1 BODY[", "1 BODY[MIME]",
			"1 BODY[1.]", "1 BODY[0]", "1 BODY[X]", "1 BODY[HEADER.FIELDS ()]", "1 BODY[HEADER.FIELDS (a:b)]", "1 BODY[]<0.0>", "1 BODY[]<1>",
			"1 BODY.PEEK", "1 FLAGS (CHANGEDSINCE 0)", "1 FLAGS (X 1)",
			"1 BINARY", "1 BINARY[", "1 BINARY[HEADER]", "1 BINARY[1.]", "1 BINARY[0]", "1 BINARY[1.MIME]", "1 BINARY.SIZE[1]<0.2>", "1 (PREVIEW (X))",
			"1 FLAGS (VANISHED)", "1 FLAGS (PARTIAL 1:2)", "1 FLAGS (CHANGEDSINCE 1 VANISHED)", "1 FLAGS (CHANGEDSINCE 1 VANISHED VANISHED)", "1 FLAGS x", "1 BODY[" + strings.Repeat("1.", 64) + "1]",
			"1 BODY[HEADER.FIELDS ({4}\r\na\r\nb)]"},
		"STORE":       {"1 FLAGS", `1 FLAGS (\Recent)`, "1 XFLAGS ()", "1 (UNCHANGEDSINCE) FLAGS ()", "1 FLAGS (a", `1 FLAGS (\)`, `1 FLAGS (\*)`},
		"COPY":        {"1", "x y", "1 a b"},
		"UID EXPUNGE": {"", "1 2", "*:", "-1", strings.Repeat("1,", 10000) + "1"},
		"SEARCH": {"", "X", "FROM", "SINCE x", "SINCE 32-Jan-2020", "()", "(ALL", "NOT", "OR ALL", "LARGER -1", "KEYWORD \\Seen", "ALL ",
			"RETURN (X) ALL", "RETURN (ALL)", "CHARSET UTF-8 TEXT \"\xe9\"", "CHARSET UTF-8 TEXT {1}\r\n\xe9", "OLDER 0", "YOUNGER", "OLDER x", "EMAILID", "EMAILID a.b", "THREADID \"a\"", "SAVEDON x", ors.String() + "ALL", strings.Repeat("(", 100) + "ALL" + strings.Repeat(")", 100),
			strings.Repeat("ALL ", 1000) + "ALL"},
		"SORT": {"", "ALL", "(DATE) ALL", "(DATE)", "() UTF-8 ALL", "(REVERSE) UTF-8 ALL", "(X) UTF-8 ALL", "(DATE) UTF-8", "(DATE) UTF-8 ALL ",
			"RETURN (X) (DATE) UTF-8 ALL", "RETURN (ALL PARTIAL 1:2) (DATE) UTF-8 ALL", "(" + strings.Repeat("DATE ", 17) + "DATE) UTF-8 ALL"},
		"THREAD": {"", "X UTF-8 ALL", "REFERENCES ALL", "REFERENCES UTF-8", "REFERENCES UTF-8 ALL "},
		"UID SEARCH": {"RETURN (PARTIAL) ALL", "RETURN (PARTIAL 1) ALL", "RETURN (PARTIAL 0:1) ALL", "RETURN (PARTIAL 1:-1) ALL",
			"RETURN (PARTIAL 1:2 PARTIAL 1:2) ALL", "RETURN (PARTIAL 1:2 ALL) ALL", "RETURN (PARTIAL 1:*) ALL", "RETURN (PARTIAL 4294967296:1) ALL"},
		"UID FETCH": {"1 UID (PARTIAL)", "1 UID (PARTIAL 1)", "1 UID (PARTIAL 0:1)", "1 UID (PARTIAL 1:2 PARTIAL 1:2)"},
		"ID":        {"", `("a")`, "(a b)", strings.Repeat("x", 10)},
		"ENABLE":    {"", "a ", "a  b"},
	} {
		for _, args := range list {
			_, err := parse(command(name, args))
			var syn *SyntaxError
			if !errors.As(err, &syn) {
				t.Errorf("%s %.80q: got %v, want a *SyntaxError", name, args, err)
				continue
			}
			for i := 0; i < len(syn.Msg); i++ {
				if syn.Msg[i] < 0x20 || syn.Msg[i] > 0x7e {
					t.Errorf("%s %.80q: message %q", name, args, syn.Msg)
				}
			}
		}
	}
	if _, err := parse(command("SEARCH", "CHARSET KOI8-R ALL")); err != ErrBadCharset {
		t.Errorf("charset: %v", err)
	}
}

func TestKeywordBounds(t *testing.T) {
	var list []string
	for i := range MaxKeywords {
		list = append(list, fmt.Sprint("k", i), fmt.Sprint("K", i))
	}
	if s, err := ParseStore(command("STORE", "1 FLAGS ("+strings.Join(list, " ")+")")); err != nil || len(s.Flags.Keywords) != MaxKeywords {
		t.Errorf("%d keywords, %v", len(s.Flags.Keywords), err)
	}
	if _, err := ParseStore(command("STORE", "1 FLAGS ("+strings.Join(list, " ")+" one)")); err == nil {
		t.Error("one keyword too many")
	}
	if _, _, err := ParseFlag(strings.Repeat("x", MaxKeywordLen+1)); err == nil {
		t.Error("long keyword")
	}
}

func TestUTF8Names(t *testing.T) {
	c := command("CREATE", "\"Envoy\xc3\xa9s & a\"")
	c.Limits.UTF8 = true
	if got, err := ParseMailbox(c); err != nil || got != "Envoyés & a" {
		t.Errorf("got %q, %v", got, err)
	}
	c.Args = []byte("\"\xc3\"")
	if _, err := ParseMailbox(c); err == nil {
		t.Error("invalid UTF-8 taken")
	}
}

// RFC 9755, Section 3: octets beyond ASCII in quotes are UTF-8, whether it was enabled or not.
func TestQuotedUTF8(t *testing.T) {
	for args, want := range map[string]string{`"é\"è"`: `é"è`, "\"\xe9\"": "", "\"a\xc3\"": "", "\"\xed\xa0\x80\"": "", "\"\\\"\xff\"": ""} {
		got, err := command("X", args).lexer().astring()
		if got != want && want != "" || (err == nil) != (want != "") {
			t.Errorf("%q: %q, %v", args, got, err)
		}
	}
	s := command("LOGIN", "anne \"h\xe9l\xe8ne\"")
	if _, err := ParseLogin(s); err == nil {
		t.Error("a password in Latin-1, quoted")
	}
}

// RFC 9755, Section 3, and erratum 4029 of RFC 6855.
func TestNoCharset(t *testing.T) {
	for args, want := range map[string]bool{"CHARSET UTF-8 ALL": false, "RETURN (MIN) CHARSET US-ASCII ALL": false, `SUBJECT "é"`: true} {
		c := command("SEARCH", args)
		c.Limits.NoChars = true
		if _, err := ParseSearch(c); (err == nil) != want || errors.Is(err, ErrBadCharset) {
			t.Errorf("SEARCH %s: %v", args, err)
		}
	}
	for args, want := range map[string]bool{"REFERENCES UTF-8 ALL": true, "REFERENCES utf-8 ALL": true, "REFERENCES US-ASCII ALL": false, "REFERENCES KOI8-R ALL": false} {
		c := command("THREAD", args)
		c.Limits.NoChars = true
		if _, err := ParseThread(c); (err == nil) != want || errors.Is(err, ErrBadCharset) {
			t.Errorf("THREAD %s: %v", args, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"1:* (FLAGS BODY[1.2]<0.3>)", "OR FROM a (NOT SEEN)", `(SUBSCRIBED) "" (a b) RETURN (STATUS (MESSAGES))`, "1 +FLAGS (a)",
		"1:4 (UNCHANGEDSINCE 12) +FLAGS.SILENT ($Taken)", "1:* (FLAGS MODSEQ) (CHANGEDSINCE 9 VANISHED)",
		"INBOX (CONDSTORE QRESYNC (9 1 2:5 (1,3 2,5)))",
		"RETURN (PARTIAL -1:-9) (REVERSE DATE SUBJECT) UTF-8 ALL", "REFERENCES UTF-8 ALL", `x (USE (\Sent))`, "a b +lrs", "OLDER 5 EMAILID M1", "1 (BINARY.PEEK[1.2]<3.4> BINARY.SIZE[] PREVIEW (LAZY))", "1:* UID (PARTIAL 1:9 CHANGEDSINCE 3)", `MODSEQ "/flags/\\draft" all 620162338`,
		`(MAXSIZE 9 DEPTH infinity) "" (/shared/a /private/b)`, `INBOX (DEPTH 1) /private`, `x (/private/a NIL /shared/b {1}\r\nx)`, `"" * RETURN (METADATA (/shared/a))`,
		"SET STATUS (SELECTED (MessageNew (UID FLAGS) MessageExpunge)) (SUBTREE (a b) (MailboxName))"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, args string) {
		c := command("X", args)
		parseAny(c)
		if a, err := ParseFetch(c); err == nil {
			for _, it := range a.Items {
				if strings.ContainsAny(it.Label, "\r\n\x00") {
					t.Fatalf("label %q", it.Label)
				}
			}
		}
	})
}
