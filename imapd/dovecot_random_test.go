package imapd

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestRandomAgainstDovecot sends the same commands, made at random, to us and to a real Dovecot, and compares each answer:
// numbers, UIDs, flags, searches, sections, COPYUID. The rounds are always the same ones, for Dovecot has faults of its own to be
// found; MSSD_CRASH_ROUNDS asks for others, so many, MSSD_SEED for one of them again.
func TestRandomAgainstDovecot(t *testing.T) {
	rounds, first := 6, uint64(1)
	if n, err := strconv.Atoi(os.Getenv("MSSD_CRASH_ROUNDS")); err == nil && n > 0 {
		rounds, first = n, rand.Uint64()
	}
	if n, err := strconv.ParseUint(os.Getenv("MSSD_SEED"), 10, 64); err == nil {
		rounds, first = 1, n
	}
	for i := range rounds {
		seed := first + uint64(i)
		t.Run(fmt.Sprintf("MSSD_SEED=%d", seed), func(t *testing.T) { randomAgainstDovecot(t, seed, 60) })
	}
}

func randomAgainstDovecot(t *testing.T, seed uint64, commands int) {
	w, d := newWorld(t, nil), newDovecot(t)
	ours, theirs := w.login(ownerName, ""), d.session()
	g := &generator{Rand: rand.New(rand.NewPCG(seed, 0)), capability: strings.Join(ours.ok("CAPABILITY"), " ") + " "}
	for range 6 {
		g.bothAppend(t, ours, theirs, "INBOX")
	}
	g.both(t, ours, theirs, "SELECT INBOX")
	for range commands {
		if g.IntN(8) == 0 {
			g.bothAppend(t, ours, theirs, g.box())
			continue
		}
		g.both(t, ours, theirs, g.command())
		if last := g.history[len(g.history)-1]; strings.HasPrefix(last, "UID STORE") {
			g.both(t, ours, theirs, "UID FETCH 1:* FLAGS")
		}
	}
	g.both(t, ours, theirs, "UID FETCH 1:* (UID FLAGS RFC822.SIZE BODY.PEEK[HEADER.FIELDS (SUBJECT DATE MESSAGE-ID REFERENCES)])")
}

// generator makes commands whose answer two servers must agree on.
type generator struct {
	*rand.Rand
	capability string
	appended   int
	history    []string
}

func (g *generator) both(t *testing.T, ours, theirs *session, command string) {
	t.Helper()
	g.history = append(g.history, command)
	for _, s := range []*session{ours, theirs} {
		_ = s.nc.SetDeadline(time.Now().Add(patience))
	}
	u, e := ours.cmd(command)
	du, de := theirs.cmd(command)
	defer func() {
		if t.Failed() {
			state, _ := ours.cmd("UID FETCH 1:* (UID FLAGS RFC822.SIZE BODY.PEEK[HEADER.FIELDS (SUBJECT DATE MESSAGE-ID REFERENCES)])")
			t.Logf("ours has\n  %s", strings.Join(state, "\n  "))
		}
	}()
	g.compare(t, normal(u, e), normal(du, de))
}

func (g *generator) bothAppend(t *testing.T, ours, theirs *session, box string) {
	t.Helper()
	raw := g.message()
	flags := []string{"", `(\Seen) `, `(\Flagged $Forwarded) `}[g.IntN(3)]
	date := fmt.Sprintf("\"%2d-Mar-2025 %02d:00:00 +0000\" ", 10+g.IntN(9), g.IntN(24))
	head := "APPEND " + box + " " + flags + date
	g.history = append(g.history, head)
	var both [2]answer
	for i, s := range []*session{ours, theirs} {
		_ = s.nc.SetDeadline(time.Now().Add(patience))
		both[i], _ = play(s, []string{fmt.Sprintf("ap%d %s{%d}", g.appended, head, len(raw)), raw})
	}
	g.appended++
	g.compare(t, both[0], both[1])
}

func (g *generator) compare(t *testing.T, ours, theirs answer) {
	t.Helper()
	if a, b := withoutFlagsLines(ours), withoutFlagsLines(theirs); a != b {
		t.Fatalf("  ours: %s\n  Dovecot: %s\nafter\n  %s", a, b, strings.Join(g.history, "\n  "))
	}
}

// withoutFlagsLines leaves out FLAGS: which keywords a mailbox has had is told at different moments.
func withoutFlagsLines(a answer) string {
	var data []string
	for _, l := range a.data {
		if !strings.HasPrefix(l, "FLAGS ") {
			data = append(data, l)
		}
	}
	a.data = data
	return a.String()
}

var randomBoxes = []string{"INBOX", "Archive", "Sent", "Trash"}

func (g *generator) box() string { return pick(g, randomBoxes...) }

func pick[T any](g *generator, of ...T) T { return of[g.IntN(len(of))] }

// message is one of a family of replies, or one with structure.
func (g *generator) message() string {
	switch n := g.appended; g.IntN(3) {
	case 0:
		return multipart
	default:
		of := g.IntN(n + 1)
		reference := ""
		if of < n {
			reference = fmt.Sprintf("References: <%d@exemple.test>\r\nIn-Reply-To: <%d@exemple.test>\r\n", of, of)
		}
		return fmt.Sprintf("From: %s <%s@exemple.test>\r\nTo: pharmacie@exemple.test\r\nSubject: %s%s\r\nDate: %s, %d Mar 2025 %02d:%02d:%02d +0000\r\n"+
			"Message-ID: <%d@exemple.test>\r\n%s\r\n%s\r\n", pick(g, "Anne", "Luc", "Zoe"), pick(g, "anne", "luc", "zoe"), pick(g, "", "Re: ", "Fwd: ", "RE: Re: "),
			pick(g, "ordonnance", "renouvellement", "Bilan"), pick(g, "Mon", "Tue"), 10+g.IntN(9), g.IntN(24), g.IntN(60), g.IntN(60), n, reference,
			strings.Repeat(pick(g, "le texte", "la réponse", "x")+"\r\n", 1+g.IntN(20)))
	}
}

// uids is a set of UIDs; some of them may not be there.
func (g *generator) uids() string {
	switch g.IntN(4) {
	case 0:
		return "1:*"
	case 1:
		return fmt.Sprintf("%d:%d", 1+g.IntN(12), 1+g.IntN(12))
	case 2:
		return fmt.Sprintf("%d,%d,%d:%d", 1+g.IntN(12), 1+g.IntN(12), 1+g.IntN(12), 1+g.IntN(12))
	}
	return strconv.Itoa(1 + g.IntN(12))
}

var randomFlags = []string{`\Seen`, `\Flagged`, `\Answered`, `\Draft`, `\Deleted`, "$Forwarded", "$Taken"}

func (g *generator) flags() string {
	out := []string{pick(g, randomFlags...)}
	if g.IntN(2) == 0 {
		out = append(out, pick(g, randomFlags...))
	}
	return "(" + strings.Join(out, " ") + ")"
}

func (g *generator) command() string {
	switch g.IntN(13) {
	case 0:
		return "SELECT " + g.box()
	case 1:
		return "STATUS " + pick(g, "Drafts", "Junk") + " (MESSAGES UNSEEN UIDNEXT)"
	case 2:
		return "NOOP"
	case 3, 4:
		return "UID STORE " + g.uids() + " " + pick(g, "+", "-", "") + "FLAGS.SILENT " + g.flags() // Dovecot says nothing of a change that changes nothing
	case 5:
		return "UID COPY " + g.uids() + " " + g.box()
	case 6:
		return "UID EXPUNGE " + g.uids()
	case 7:
		return "UID FETCH " + g.uids() + " (" + pick(g, "FLAGS", "ENVELOPE", "BODYSTRUCTURE", "RFC822.SIZE", "BODY.PEEK[]", "BODY.PEEK[HEADER]",
			"BODY.PEEK[TEXT]", "BODY.PEEK[1]", "BODY.PEEK[2.MIME]", "BODY.PEEK[HEADER.FIELDS (SUBJECT FROM)]", "BODY.PEEK[HEADER.FIELDS.NOT (DATE)]",
			"BODY.PEEK[]<3.40>", "BODY.PEEK[TEXT]<0.5>", "FULL", "ALL") + ")"
	case 8:
		if strings.Contains(g.capability, " SORT ") { // no REVERSE, and no DATE behind another key: Dovecot 2.3 errs there
			return pick(g, "UID SORT", "SORT") + " (" + pick(g, "SUBJECT", "DATE", "ARRIVAL", "SIZE", "FROM", "TO", "CC", "TO SUBJECT SIZE") + ") UTF-8 " + g.search(1)
		}
		return "UID MOVE " + g.uids() + " " + g.box()
	case 9:
		if strings.Contains(g.capability, " THREAD=REFERENCES ") { // ORDEREDSUBJECT sorts by subject and date: as above
			return "UID THREAD REFERENCES UTF-8 " + g.search(1)
		}
		return "UID SEARCH " + g.search(2)
	case 10:
		return "SEARCH RETURN (" + pick(g, "MIN", "MAX", "COUNT", "ALL", "MIN MAX COUNT ALL") + ") " + g.search(2)
	case 11:
		return "UID SEARCH " + g.search(2)
	}
	return "SEARCH " + g.search(3)
}

// search is a key of at most so many levels. No kind of key comes twice in it: Dovecot 2.3 draws two of a kind together and
// errs then, as in OR UNSEEN UNDELETED for a message that is \Seen only, or NOT OR SMALLER 838 SMALLER 256.
func (g *generator) search(depth int) string {
	keys := []string{pick(g, "SEEN", "UNSEEN", "FLAGGED", "DELETED", "UNDELETED", "DRAFT", "ANSWERED"), pick(g, "KEYWORD $Forwarded", "UNKEYWORD $Taken"),
		"UID " + g.uids(), fmt.Sprintf("%s %d", pick(g, "LARGER", "SMALLER"), g.IntN(900)),
		fmt.Sprintf("%s %d-Mar-2025", pick(g, "SINCE", "BEFORE", "ON"), 9+g.IntN(12)), fmt.Sprintf("%s %d-Mar-2025", pick(g, "SENTSINCE", "SENTBEFORE", "SENTON"), 9+g.IntN(12)),
		pick(g, "SUBJECT ordonnance", "SUBJECT re:"), pick(g, "FROM luc", "TO pharmacie", "CC x"), pick(g, "BODY texte", "TEXT bilan"),
		pick(g, `HEADER Message-ID "<1@"`, `HEADER References ""`)}
	g.Shuffle(len(keys), func(i, j int) { keys[i], keys[j] = keys[j], keys[i] })
	return g.tree(depth, &keys)
}

func (g *generator) tree(depth int, keys *[]string) string {
	if depth > 0 {
		switch g.IntN(4) {
		case 0:
			return "NOT " + g.tree(depth-1, keys)
		case 1:
			return "OR " + g.tree(depth-1, keys) + " " + g.tree(depth-1, keys)
		case 2:
			return "(" + g.tree(depth-1, keys) + " " + g.tree(depth-1, keys) + ")"
		}
	}
	key := (*keys)[0]
	*keys = (*keys)[1:]
	return key
}
