package wire

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// RFC 5465, Section 8.
func TestParseNotify(t *testing.T) {
	const messages = NotifyMessageNew | NotifyMessageExpunge
	names := func(n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, " n%d", i)
		}
		return "(" + b.String()[1:] + ")"
	}
	for _, c := range []struct {
		args string
		want Notify // Groups nil: NONE
		bad  bool
	}{
		{args: "NONE"},
		{args: "none"},
		{args: "SET (SELECTED NONE)", want: Notify{Groups: []NotifyGroup{{Filter: NotifySelected}}}},
		{args: "set status (selected-delayed (messagenew (uid flags) messageexpunge))", want: Notify{Status: true, Groups: []NotifyGroup{{Filter: NotifySelectedDelayed,
			Events: messages, Fetch: []FetchItem{item(FetchUID, "UID"), item(FetchFlags, "FLAGS")}}}}},
		{args: "SET (SELECTED (MessageNew (BODY.PEEK[HEADER.FIELDS (From)]) FlagChange MessageExpunge))", want: Notify{Groups: []NotifyGroup{{Filter: NotifySelected,
			Events: messages | NotifyFlagChange, Fetch: []FetchItem{{Kind: FetchSection, Label: "BODY[HEADER.FIELDS (From)]", Peek: true,
				Section: Section{Text: SectionHeaderFields, Fields: []string{"From"}}}}}}}},
		{args: `SET (mailboxes inbox (MessageNew MessageExpunge)) (SUBTREE ("a b" {1}` + "\r\n" + `c) (MailboxName SubscriptionChange)) (inboxes NONE)`, want: Notify{Groups: []NotifyGroup{
			{Filter: NotifyMailboxes, Names: []string{"INBOX"}, Events: messages},
			{Filter: NotifySubtree, Names: []string{"a b", "c"}, Events: NotifyMailboxName | NotifySubscriptionChange}, {Filter: NotifyInboxes}}}},
		// Wildcards are no wildcards (Section 6.6), and stand in quotes like any odd name.
		{args: `SET (MAILBOXES "*" (MailboxName))`, want: Notify{Groups: []NotifyGroup{{Filter: NotifyMailboxes, Names: []string{"*"}, Events: NotifyMailboxName}}}},
		{args: "SET (PERSONAL (MailboxMetadataChange ServerMetadataChange))", want: Notify{Groups: []NotifyGroup{{Filter: NotifyPersonal, Events: NotifyMailboxMetadataChange | NotifyServerMetadataChange}}}},
		{args: "SET (SELECTED (ServerMetadataChange))", bad: true},
		{args: "SET (PERSONAL (MessageNew MessageExpunge AnnotationChange X-Other))", want: Notify{Groups: []NotifyGroup{{Filter: NotifyPersonal, Events: messages | NotifyUnknown}}}},
		{args: "SET (MAILBOXES " + names(5000) + " NONE)", want: Notify{Groups: []NotifyGroup{{Filter: NotifyMailboxes, Names: strings.Split(strings.Trim(names(5000), "()"), " ")}}}},
		{args: "", bad: true}, {args: "NONE x", bad: true}, {args: "SET", bad: true}, {args: "SET ", bad: true}, {args: "SET STATUS", bad: true}, {args: "SET STATUS ", bad: true},
		{args: "SET SELECTED NONE", bad: true}, {args: "SET (SELECTED)", bad: true}, {args: "SET (SELECTED )", bad: true}, {args: "SET (SELECTED NONE", bad: true},
		{args: "SET (SELECTED MessageNew)", bad: true}, {args: "SET (SELECTED ())", bad: true}, {args: "SET (SELECTED (MessageNew))", bad: true},
		{args: "SET (SELECTED (MessageExpunge))", bad: true}, {args: "SET (PERSONAL (FlagChange))", bad: true}, {args: "SET (SELECTED (MailboxName))", bad: true},
		{args: "SET (SELECTED NONE) (SELECTED NONE)", bad: true}, {args: "SET (SELECTED NONE)(PERSONAL NONE)", bad: true}, {args: "SET (SELECTED NONE) ", bad: true},
		{args: "SET (PERSONAL (MessageNew (UID) MessageExpunge))", bad: true}, {args: "SET (SELECTED (MessageNew () MessageExpunge))", bad: true},
		{args: "SET (SELECTED (MessageNew (ALL) MessageExpunge))", bad: true}, {args: "SET (MAILBOXES () NONE)", bad: true}, {args: "SET (MAILBOXES a)", bad: true},
		{args: "SET (MAILBOXES * NONE)", bad: true}, {args: "SET (X NONE)", bad: true}, {args: "SET (MAILBOXES " + names(10001) + " NONE)", bad: true},
		{args: "SET" + strings.Repeat(" (PERSONAL NONE)", 1001), bad: true},
	} {
		got, err := ParseNotify(command("NOTIFY", c.args))
		var syn *SyntaxError
		switch {
		case c.bad && !errors.As(err, &syn):
			t.Errorf("%.80q: got %v, want a *SyntaxError", c.args, err)
		case !c.bad && err != nil:
			t.Errorf("%.80q: %v", c.args, err)
		case !c.bad:
			if d := cmp.Diff(c.want, got); d != "" {
				t.Errorf("%.80q: -want +got\n%s", c.args, d)
			}
		}
	}
}

func TestAppendListOldName(t *testing.T) {
	d := ListData{Command: "LIST", Delim: '/', Name: "Nouveau", OldName: "Été"}
	if got, want := string(AppendList(nil, d, false)), "* LIST () \"/\" Nouveau (\"OLDNAME\" (&AMk-t&AOk-))\r\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got, want := string(AppendList(nil, d, true)), "* LIST () \"/\" Nouveau (\"OLDNAME\" (\"Été\"))\r\n"; got != want {
		t.Errorf("in UTF-8: got %q, want %q", got, want)
	}
}
