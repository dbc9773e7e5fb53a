package store_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"mssd/store"
	"mssd/store/storetest"
)

// TestNews: of each operation a watcher hears what it asked for, as it was before, and nothing else.
func TestNews(t *testing.T) {
	s := storetest.New(t)
	const addr = "pharmacie@exemple.test"
	bal := storetest.AddBAL(t, s, addr, store.ORG)
	other := storetest.AddBAL(t, s, "cabinet@exemple.test", store.ORG)
	commit := func(ops ...store.Op) error {
		t.Helper()
		b := &store.Batch{Ops: ops}
		if _, ok := ops[0].(store.AddMessage); ok {
			b.Blob = storetest.NewBlob(t, s, "Subject: a\r\n\r\nb\r\n")
		}
		_, err := s.Commit(t.Context(), b)
		return err
	}
	ref := func(name string) store.Ref {
		t.Helper()
		m, err := s.Mailbox(bal.ID, name)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		return m.Ref
	}
	messages := store.MatterMessages
	n := s.WatchNews(map[store.BALID]store.Interest{bal.ID: func(name string, subscribed bool) store.Matters {
		switch {
		case name == "":
			return store.MatterAnnotations
		case name == "INBOX":
			return messages | store.MatterFlags | store.MatterAnnotations
		case name == "Archive":
			return messages
		case strings.HasPrefix(name, "Suivi"):
			return store.MatterNames | store.MatterSubscriptions
		case subscribed && name == "Abonnement":
			return messages
		}
		return 0
	}})
	add := func(name string) store.Op {
		return store.AddMessage{Ref: ref(name)}
	}
	for _, c := range []struct {
		name string
		op   func() store.Op
		want string
	}{
		{"a message", func() store.Op { return add("INBOX") }, "INBOX:0"},
		{"a flag", func() store.Op {
			return store.StoreFlags{Ref: ref("INBOX"), Runs: []store.Run{{First: 1, Count: 1}}, Mode: store.Add, Flags: store.Seen}
		}, "INBOX:1"},
		{"the same flag again", func() store.Op {
			return store.StoreFlags{Ref: ref("INBOX"), Runs: []store.Run{{First: 1, Count: 1}}, Mode: store.Add, Flags: store.Seen}
		}, ""},
		{"a message elsewhere", func() store.Op { return add("Sent") }, ""},
		{"a message where flags do not matter", func() store.Op { return add("Archive") }, "Archive:0"},
		{"a flag there", func() store.Op {
			return store.StoreFlags{Ref: ref("Archive"), Runs: []store.Run{{First: 1, Count: 1}}, Mode: store.Add, Flags: store.Seen}
		}, ""},
		{"a mailbox", func() store.Op { return store.CreateMailbox{BAL: bal.ID, Name: "Suivi"} }, ":0"},
		{"a message in it", func() store.Op { return add("Suivi") }, ""},
		{"another mailbox", func() store.Op { return store.CreateMailbox{BAL: bal.ID, Name: "Autre"} }, ""},
		{"renamed into", func() store.Op { return store.RenameMailbox{Ref: ref("Autre"), To: "Suivi/Autre"} }, "Autre:0"},
		{"renamed out of", func() store.Op { return store.RenameMailbox{Ref: ref("Suivi/Autre"), To: "Autre"} }, "Suivi/Autre:0"},
		{"deleted", func() store.Op { return store.DeleteMailbox{Ref: ref("Suivi")} }, "Suivi:1"},
		{"subscribed", func() store.Op { return store.Subscribe{BAL: bal.ID, Name: "Suivi/x", On: true} }, "Suivi/x=false"},
		{"subscribed again", func() store.Op { return store.Subscribe{BAL: bal.ID, Name: "Suivi/x", On: true} }, ""},
		{"unsubscribed", func() store.Op { return store.Subscribe{BAL: bal.ID, Name: "Suivi/x"} }, "Suivi/x=true"},
		{"another name", func() store.Op { return store.Subscribe{BAL: bal.ID, Name: "Ailleurs", On: true} }, ""},
		{"a mailbox of a subscribed name", func() store.Op { return store.CreateMailbox{BAL: bal.ID, Name: "Abonnement"} }, ""},
		{"subscribed in time", func() store.Op { return store.Subscribe{BAL: bal.ID, Name: "Abonnement", On: true} }, ""},
		{"a message there", func() store.Op { return add("Abonnement") }, "Abonnement:0"},
		{"a member", func() store.Op {
			return store.PutMember{Address: addr, Member: store.Member{ID: "local:anne", Role: store.Owner}}
		}, "rights"},
		{"an annotation", func() store.Op {
			return store.PutAnnotation{Ref: ref("INBOX"), Annotation: store.Annotation{Person: "local:anne", Entry: "/comment", Value: "x"}}
		}, "@local:anne/comment"},
		{"one of another mailbox", func() store.Op {
			return store.PutAnnotation{Ref: ref("Sent"), Annotation: store.Annotation{Entry: "/comment", Value: "x"}}
		}, ""},
		{"one of the BAL", func() store.Op {
			return store.PutAnnotation{Ref: store.Ref{BAL: bal.ID}, Annotation: store.Annotation{Entry: "/comment", Value: "x"}}
		}, "@/comment"},
		{"another BAL", func() store.Op { return store.CreateMailbox{BAL: other.ID, Name: "Suivi"} }, ""},
	} {
		if err := commit(c.op()); err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		woken := false
		select {
		case <-n.C:
			woken = true
		default:
		}
		got := tidings(n.Take())
		if got != c.want || woken != (c.want != "") {
			t.Errorf("%s: heard %q, woken %v, want %q", c.name, got, woken, c.want)
		}
	}
	// A batch that fails tells nothing.
	if err := commit(store.Subscribe{BAL: bal.ID, Name: "Suivi/y", On: true}, store.DeleteMailbox{Ref: store.Ref{BAL: bal.ID, Mailbox: 999}}); err == nil {
		t.Fatal("a mailbox that does not exist was deleted")
	}
	if got := n.Take(); !got.Empty() {
		t.Errorf("a batch that failed told %q", tidings(got))
	}
	// Between two looks the first state counts.
	for range 3 {
		if err := commit(add("INBOX")); err != nil {
			t.Fatal(err)
		}
	}
	if got := tidings(n.Take()); got != "INBOX:1" {
		t.Errorf("three messages: %q", got)
	}
	n.Close()
	if err := commit(add("INBOX")); err != nil {
		t.Fatal(err)
	}
	if got := n.Take(); !got.Empty() {
		t.Errorf("a closed watcher heard %q", tidings(got))
	}
}

func tidings(t store.Tidings) string {
	var out []string
	for _, was := range t.Boxes {
		out = append(out, fmt.Sprintf("%s:%d", was.Name, was.Messages))
	}
	for name, was := range t.Subscriptions {
		out = append(out, fmt.Sprintf("%s=%v", name.Name, was))
	}
	for a := range t.Annotations {
		out = append(out, "@"+a.Person+a.Entry)
	}
	if t.Rights {
		out = append(out, "rights")
	}
	if t.Over {
		out = append(out, "over")
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

// TestNewsOver: who does not look loses the news, and hears that; the store keeps a bounded number of them.
func TestNewsOver(t *testing.T) {
	s := storetest.New(t)
	bal := storetest.AddBAL(t, s, "pharmacie@exemple.test", store.ORG)
	n := s.WatchNews(map[store.BALID]store.Interest{bal.ID: func(string, bool) store.Matters { return store.MatterNames }})
	defer n.Close()
	for group := range 3 {
		var ops []store.Op
		for i := range 1000 {
			ops = append(ops, store.CreateMailbox{BAL: bal.ID, Name: fmt.Sprintf("D%d-%d", group, i)})
		}
		if _, err := s.Commit(t.Context(), &store.Batch{Ops: ops}); err != nil {
			t.Fatal(err)
		}
	}
	if got := n.Take(); !got.Over || len(got.Boxes) > 0 {
		t.Errorf("3000 mailboxes: over %v, %d kept", got.Over, len(got.Boxes))
	}
	if _, err := s.Commit(t.Context(), &store.Batch{Ops: []store.Op{store.CreateMailbox{BAL: bal.ID, Name: "Encore"}}}); err != nil {
		t.Fatal(err)
	}
	if got := n.Take(); got.Over || len(got.Boxes) != 1 {
		t.Errorf("afterwards: %q", tidings(got))
	}
	listed, err := s.Listed(bal.ID, []string{"D0-1", "Rien", "INBOX"})
	if err != nil || !listed[0].Created || listed[1].Created || !listed[2].Subscribed || listed[0].Subscribed {
		t.Errorf("listed: %+v %v", listed, err)
	}
}
