package imapd

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"
)

// TestClaim: of ten sessions that race for a letter by STORE (UNCHANGEDSINCE n) +FLAGS ($Taken), one wins and nine
// are told MODIFIED; each of them then sees that it is taken.
func TestClaim(t *testing.T) {
	w := newWorld(t, nil)
	const racers, letters = 10, 8
	for range letters {
		w.deliver("INBOX", mail)
	}
	n := w.box("INBOX").HighestModSeq
	sessions := make([]*session, racers)
	for i := range sessions {
		sessions[i] = w.login(ownerName, "INBOX")
		sessions[i].ok("NOOP")
	}
	for letter := 1; letter <= letters; letter++ {
		silent := []string{"", ".SILENT"}[letter%2]
		claim := fmt.Sprintf("UID STORE %d (UNCHANGEDSINCE %d) +FLAGS%s ($Taken)", letter, n, silent)
		lost := fmt.Sprintf("OK [MODIFIED %d] ", letter)
		ends := make([]string, racers)
		start := make(chan struct{})
		var wg sync.WaitGroup
		for i, s := range sessions {
			wg.Add(1)
			go func() {
				defer wg.Done()
				<-start
				_, ends[i] = s.cmd(claim)
			}()
		}
		close(start)
		wg.Wait()
		winners := 0
		for _, end := range ends {
			switch {
			case strings.HasPrefix(end, lost):
			case strings.HasPrefix(end, "OK UID STORE completed"):
				winners++
			default:
				t.Fatalf("letter %d: %q", letter, end)
			}
		}
		if winners != 1 {
			t.Fatalf("letter %d: %d winners: %q", letter, winners, ends)
		}
	}
	for _, s := range sessions {
		for _, l := range s.ok("FETCH 1:* FLAGS") {
			if !strings.Contains(l, "$Taken") {
				s.fail("not taken: %s", l)
			}
		}
	}
}

// TestClaimWithinOneView: who lost is told of the change of the winner before the command ends or with it.
func TestClaimWithinOneView(t *testing.T) {
	w := newWorld(t, nil)
	w.deliver("INBOX", mail)
	a, b := w.login(ownerName, "INBOX"), w.login(ownerName, "INBOX")
	expect(a, a.ok("STORE 1 (UNCHANGEDSINCE 2) +FLAGS ($Taken)"), "* OK [HIGHESTMODSEQ 2] Last change",
		`* FLAGS (\Answered \Flagged \Deleted \Seen \Draft $Taken)`, `* 1 FETCH (FLAGS (\Recent $Taken) MODSEQ (3))`)
	expect(b, b.want("STORE 1 (UNCHANGEDSINCE 2) +FLAGS ($Taken)", "OK [MODIFIED 1]"), "* OK [HIGHESTMODSEQ 2] Last change",
		`* FLAGS (\Answered \Flagged \Deleted \Seen \Draft $Taken)`, `* 1 FETCH (FLAGS ($Taken) MODSEQ (3))`)
}

// TestCondStoreManyParts: a conditional STORE over more messages than one commit changes leaves alone exactly those
// that others changed, in each part.
func TestCondStoreManyParts(t *testing.T) {
	w := newWorld(t, nil)
	w.deliver("INBOX", mail)
	s := w.login(ownerName, "INBOX")
	for range 14 { // 2^14 messages
		s.ok("UID COPY 1:* INBOX")
	}
	count := w.box("INBOX").Messages
	if count <= maxAtOnce {
		t.Fatalf("%d messages are one part", count)
	}
	n := w.box("INBOX").HighestModSeq
	s.ok(`UID STORE 7,12000 +FLAGS.SILENT (\Flagged)`)
	_, tagged := s.cmd(fmt.Sprintf(`UID STORE 1:* (UNCHANGEDSINCE %d) +FLAGS.SILENT (\Seen)`, n))
	if !strings.HasPrefix(tagged, "OK [MODIFIED 7,12000] ") {
		t.Fatalf("%q", tagged)
	}
	if left := w.box("INBOX").Unseen; left != 2 {
		t.Errorf("%d unseen, want the 2 that were left alone", left)
	}
}

// TestGoIMAPCondStore: an independent client reads MODSEQ and sends the modifiers.
func TestGoIMAPCondStore(t *testing.T) {
	w := newWorld(t, nil)
	w.deliver("INBOX", mail)
	w.deliver("INBOX", multipart)
	c := w.goClient(nil)
	if !c.Caps().Has(imap.CapCondStore) {
		t.Fatal("CONDSTORE is not seen")
	}
	sel, err := c.Select("INBOX", &imap.SelectOptions{CondStore: true}).Wait()
	if err != nil || sel.HighestModSeq != 3 {
		t.Fatalf("select: %v %+v", err, sel)
	}
	msgs, err := c.Store(imap.SeqSetNum(1), &imap.StoreFlags{Op: imap.StoreFlagsAdd, Flags: []imap.Flag{imap.FlagSeen}},
		&imap.StoreOptions{UnchangedSince: 3}).Collect()
	if err != nil || len(msgs) != 1 || msgs[0].ModSeq != 4 {
		t.Fatalf("store: %v %+v", err, msgs)
	}
	msgs, err = c.Fetch(imap.SeqSetNum(1, 2), &imap.FetchOptions{ModSeq: true, Flags: true, ChangedSince: 3}).Collect()
	if err != nil || len(msgs) != 1 || msgs[0].SeqNum != 1 || msgs[0].ModSeq != 4 {
		t.Fatalf("fetch: %v %+v", err, msgs)
	}
	found, err := c.Search(&imap.SearchCriteria{ModSeq: &imap.SearchCriteriaModSeq{ModSeq: 4}}, nil).Wait()
	if err != nil || fmt.Sprint(found.AllSeqNums()) != "[1]" || found.ModSeq != 4 {
		t.Fatalf("search: %v %+v", err, found)
	}
	st, err := c.Status("INBOX", &imap.StatusOptions{HighestModSeq: true}).Wait()
	if err != nil || st.HighestModSeq != 4 {
		t.Fatalf("status: %v %+v", err, st)
	}
}

// goClient is go-imap's client, logged in as the owner.
func (w *world) goClient(opts *imapclient.Options) *imapclient.Client {
	w.t.Helper()
	if opts == nil {
		opts = &imapclient.Options{}
	}
	opts.TLSConfig = w.client
	c, err := imapclient.DialTLS(w.addr, opts)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { c.Close() })
	if err := c.Login(ownerName, password).Wait(); err != nil {
		w.t.Fatal(err)
	}
	return c
}
