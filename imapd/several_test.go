package imapd

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"mssd/auth"
	"mssd/auth/psctest"
	"mssd/store"
	"mssd/trace"
)

// What hugo holds beside the BAL of the other tests, whose writer he is.
const (
	ownBAL    = "hugo@exemple.test"      // PER, its owner
	ownerBAL  = "officine@exemple.test"  // ORG, an owner of it
	readBAL   = "cabinet@exemple.test"   // CAB, a reader
	hugo      = "rpps:99900000052"       // writer of balAddress
	under     = "Other Users/"           // where the others stand
	inWritten = under + balAddress + "/" //
	inOwned   = under + ownerBAL + "/"   //
	inRead    = under + readBAL + "/"    //
)

// persons is a world with somebody who holds four BALs.
type persons struct {
	*world
	provider *psctest.Provider
	ahead    atomic.Int64 // of the clock of auth, nanoseconds
}

func newPersons(t testing.TB, change ...func(*Server)) *persons {
	t.Helper()
	p := &persons{provider: psctest.New(t)}
	psc := must[*auth.PSC](t, "psc")(auth.NewPSC(p.provider.Config()))
	t.Cleanup(psc.Close)
	p.world = newWorld(t, func(s *Server) {
		s.Auth = auth.New(auth.Config{Store: s.Store, Argon: auth.Params{Time: 1, MemoryKiB: 64, Threads: 1}, Log: s.Log, PSC: psc, MaxSession: 24 * time.Hour,
			Now: func() time.Time { return time.Now().Add(time.Duration(p.ahead.Load())) }})
		s.Mechanisms = []string{auth.XOAuth2, auth.OAuthBearer, auth.Plain}
		for _, f := range change {
			f(s)
		}
	})
	for _, b := range []struct {
		a    store.Address
		kind store.Kind
		role store.Role
	}{{ownBAL, store.PER, store.Owner}, {ownerBAL, store.ORG, store.Owner}, {readBAL, store.CAB, store.Reader}} {
		p.commit(store.PutBAL{BAL: store.BAL{Address: b.a, Kind: b.kind, State: store.Active, Listing: store.Published}, Create: true},
			store.PutMember{Address: b.a, Member: store.Member{ID: hugo, Role: b.role}})
	}
	p.commit(store.PutMember{Address: balAddress, Member: store.Member{ID: hugo, Role: store.Writer}})
	return p
}

// authenticate is the command that logs hugo in, as the user named.
func (p *persons) authenticate(user string) string {
	return "AUTHENTICATE XOAUTH2 " + xoauth2(user, p.provider.Token(psctest.Claims{NameID: hugoID, Username: hugoID}))
}

// asHugo logs in as the person.
func (p *persons) asHugo() *session {
	p.t.Helper()
	s := p.dial()
	s.line()
	s.ok(p.authenticate(""))
	return s
}

func (p *persons) in(a store.Address) store.BAL {
	p.t.Helper()
	return must[store.BAL](p.t, "bal")(p.store.BAL(a))
}

// receive delivers to the INBOX of a BAL.
func (p *persons) receive(a store.Address, raw string) store.UID {
	p.t.Helper()
	return must[store.UID](p.t, "deliver")(p.deliverTo(p.in(a), prefix, "INBOX", raw))
}

// count is how many messages a mailbox has.
func (p *persons) count(a store.Address, box string) uint32 {
	p.t.Helper()
	return must[store.Mailbox](p.t, "mailbox")(p.store.Mailbox(p.in(a).ID, box)).Messages
}

// TestPersonLogin: every form of the own identifier opens all BALs, over both mechanisms; the address of a BAL that one alone.
func TestPersonLogin(t *testing.T) {
	p := newPersons(t)
	others := `* NAMESPACE (("" "/")) (("Other Users/" "/")) NIL`
	alone := `* NAMESPACE (("" "/")) NIL NIL`
	token := p.provider.Token(psctest.Claims{NameID: hugoID, Username: hugoID})
	bare := base64Of("n,,\x01host=imap.exemple.test\x01auth=Bearer " + token + "\x01\x01")
	for _, c := range []struct{ message, want string }{
		{"XOAUTH2 " + xoauth2("", token), others},
		{"XOAUTH2 " + xoauth2(hugoID, token), others},
		{"XOAUTH2 " + xoauth2("99900000052", token), others},
		{"XOAUTH2 " + xoauth2(hugo, token), others},
		{"OAUTHBEARER " + oauthbearer(hugoID, token), others},
		{"OAUTHBEARER " + bare, others},
		{"XOAUTH2 " + xoauth2(balAddress, token), alone},
		{"XOAUTH2 " + xoauth2(ownBAL, token), alone},
	} {
		s := p.dial()
		s.line()
		s.ok("AUTHENTICATE " + c.message)
		expect(s, s.ok("NAMESPACE"), c.want)
		if c.want == alone {
			s.want(`SELECT "`+inRead+`INBOX"`, "NO [NONEXISTENT]")
			s.want(`CREATE "`+inRead+`INBOX"`, "NO [CANNOT]")
		}
		s.ok("LOGOUT")
	}
	s := p.dial()
	s.line()
	tag, _ := s.start("AUTHENTICATE XOAUTH2 " + xoauth2(zoeID, token)) // somebody else
	s.send("\r\n")
	if _, end := s.until(tag); !strings.HasPrefix(end, "NO [AUTHENTICATIONFAILED]") {
		s.fail("as somebody else: %q", end)
	}
	s.ok(p.authenticate("")) // the connection was kept
}

// TestRightsOfSeveral: what each operation answers in a BAL that one owns, writes to or reads, all in one session.
func TestRightsOfSeveral(t *testing.T) {
	p := newPersons(t)
	for _, a := range []store.Address{ownBAL, ownerBAL, balAddress, readBAL} {
		for range 3 {
			p.receive(a, mail)
		}
	}
	const ok, noPerm, readOnly = "OK", "NO [NOPERM]", "NO The mailbox is selected read-only"
	rows := []struct {
		command             string // %s is the prefix of the names of a BAL
		owner, writer, read string
	}{
		{`STATUS "%sINBOX" (MESSAGES UNSEEN)`, ok, ok, ok},
		{`LIST "" "%s*" RETURN (STATUS (MESSAGES) MYRIGHTS)`, ok, ok, ok},
		{`MYRIGHTS "%sINBOX"`, ok, ok, ok},
		{`GETACL "%sINBOX"`, ok, noPerm, noPerm},
		{`LISTRIGHTS "%sINBOX" x`, ok, noPerm, noPerm},
		{`SETACL "%sINBOX" x lr`, "NO [CANNOT]", noPerm, noPerm},
		{`GETQUOTAROOT "%sINBOX"`, ok, ok, ok},
		{`SUBSCRIBE "%sINBOX"`, ok, ok, noPerm},
		{`UNSUBSCRIBE "%sINBOX"`, ok, ok, noPerm},
		{`CREATE "%sDossier/x"`, ok, ok, noPerm},
		{`RENAME "%[1]sDossier" "%[1]sAutre"`, ok, ok, noPerm},
		{`DELETE "%sAutre/x"`, ok, ok, "NO [NONEXISTENT]"},
		{`DELETE "%sTrash"`, ok, ok, noPerm},
		{`DELETE "%sINBOX"`, "NO [CANNOT]", "NO [CANNOT]", noPerm},
		{`GETMETADATA "%sINBOX" /private/comment`, ok, ok, ok},
		{`SETMETADATA "%sINBOX" (/private/comment "x")`, ok, ok, ok},
		{`SETMETADATA "%sINBOX" (/shared/comment "x")`, ok, ok, noPerm},
		{`APPEND "%sINBOX" {4+}` + "\r\nA: b", ok, ok, noPerm},
		{`EXAMINE "%sINBOX"`, "OK [READ-ONLY]", "OK [READ-ONLY]", "OK [READ-ONLY]"},
		{`STORE 1 +FLAGS (\Flagged)`, readOnly, readOnly, readOnly},
		{`SELECT "%sINBOX"`, "OK [READ-WRITE]", "OK [READ-WRITE]", "OK [READ-ONLY]"},
		{`FETCH 1 (FLAGS BODY[])`, ok, ok, ok},
		{`SEARCH TEXT helene`, ok, ok, ok},
		{`STORE 1 +FLAGS (\Flagged)`, ok, ok, readOnly},
		{`COPY 1 "%sArchive"`, ok, ok, noPerm},
		{`COPY 1 Archive`, ok, ok, ok}, // into the own BAL
		{`COPY 1 "` + inRead + `INBOX"`, noPerm, noPerm, noPerm},
		{`COPY 1 "` + inRead + `Nulle"`, "NO [TRYCREATE]", "NO [TRYCREATE]", "NO [TRYCREATE]"},
		{`MOVE 1 "%sArchive"`, ok, ok, noPerm},
		{`MOVE 1 Archive`, ok, ok, readOnly},
		{`STORE 1 +FLAGS (\Deleted)`, ok, ok, readOnly},
		{`EXPUNGE`, ok, ok, readOnly},
		{`RENAME "%sArchive" Archive2`, "NO [CANNOT]", "NO [CANNOT]", noPerm}, // into the own BAL
		{`RENAME Archive "%sArchive2"`, "NO [CANNOT]", "NO [CANNOT]", noPerm},
		{`CLOSE`, ok, ok, ok},
	}
	for _, b := range []struct {
		address, prefix, rights string
		want                    func(i int) string
	}{
		{ownerBAL, inOwned, "lrswitekxacd", func(i int) string { return rows[i].owner }},
		{balAddress, inWritten, "lrswitekxcd", func(i int) string { return rows[i].writer }},
		{readBAL, inRead, "lr", func(i int) string { return rows[i].read }},
	} {
		t.Run(b.address, func(t *testing.T) {
			s := p.asHugo()
			s.t = t
			for i, row := range rows {
				command := row.command
				if strings.Contains(command, "%") {
					command = fmt.Sprintf(command, b.prefix)
				}
				un := s.want(command, b.want(i))
				if strings.HasPrefix(command, "MYRIGHTS") {
					expect(s, un, `* MYRIGHTS "`+b.prefix+`INBOX" `+b.rights)
				}
				if strings.HasPrefix(command, "GETQUOTAROOT") {
					expect(s, un, `* QUOTAROOT "`+b.prefix+`INBOX" `+b.address, `* QUOTA `+b.address+` ()`)
				}
			}
		})
	}
	if n := p.count(ownBAL, "Archive"); n != 5 { // three COPY and two MOVE
		t.Errorf("the own Archive has %d messages, want 5", n)
	}
	if n := p.count(readBAL, "INBOX"); n != 3 {
		t.Errorf("the BAL that is only read has %d messages, want 3", n)
	}
}

// TestMoveBetweenBALs: a message that goes from one BAL to another is in one of them at each moment, counts in the one that has
// it, and the trace says who moved it where.
func TestMoveBetweenBALs(t *testing.T) {
	p := newPersons(t)
	for range 2 {
		p.receive(balAddress, multipart)
	}
	one := int64(1)
	p.commit(store.SetQuota{Address: ownBAL, Messages: &one})
	s := p.asHugo()
	s.ok(`SELECT "` + inWritten + `INBOX"`)
	s.want("MOVE 1:2 INBOX", "NO [OVERQUOTA]")
	s.want("COPY 1:2 INBOX", "NO [OVERQUOTA]")
	if own, all := p.count(ownBAL, "INBOX"), p.count(balAddress, "INBOX"); own != 0 || all != 2 {
		t.Fatalf("after a MOVE that failed: %d and %d messages", own, all)
	}
	un := s.ok("MOVE 2 INBOX")
	if len(un) != 2 || !strings.HasPrefix(un[0], "* OK [COPYUID ") || !strings.HasSuffix(un[0], " 2 1] Done") || un[1] != "* 2 EXPUNGE" {
		s.fail("%q", un)
	}
	if own, all := p.in(ownBAL), p.in(balAddress); own.Messages != 1 || all.Messages != 1 || own.Octets != all.Octets {
		t.Errorf("the BALs hold %d and %d messages, %d and %d octets", own.Messages, all.Messages, own.Octets, all.Octets)
	}
	// The team of the BAL that it left can have it back.
	if n, _, err := p.store.CountExpunged(p.bal.ID); n != 1 || err != nil {
		t.Errorf("%d messages can be brought back where it was, %v", n, err)
	}
	s.ok("SELECT INBOX")
	if un := s.ok("FETCH 1 BODY[]"); !strings.HasSuffix(strings.Join(un[:1], ""), prefix+multipart+")") {
		s.fail("read in the other BAL: %q", un)
	}
	// Whoever opens the other BAL no longer has it; a REPLACE across BALs is one commit too.
	s.want(`REPLACE 1 "`+inWritten+`Drafts" {4+}`+"\r\nA: b", "OK")
	if n, d := p.count(ownBAL, "INBOX"), p.count(balAddress, "Drafts"); n != 0 || d != 1 {
		t.Errorf("after REPLACE %d and %d messages", n, d)
	}
	s.ok("LOGOUT")
	p.stopNow()
	var moved []string
	for _, e := range p.events {
		if e.Kind == trace.Moved || e.Kind == trace.Expunged {
			moved = append(moved, fmt.Sprintf("%s %s %s to %s %s", e.Person, e.BAL, e.UIDs, e.Attr(trace.KeyToBAL), e.Attr(trace.KeyToUIDs)))
		}
	}
	if want := []string{hugo + " " + balAddress + " 2 to " + ownBAL + " 1", hugo + " " + ownBAL + " 1 to " + balAddress + " "}; !slices.Equal(moved, want) {
		t.Errorf("the trace has %q, want %q", moved, want)
	}
}

// stopNow ends the server, so that all events are written.
func (p *persons) stopNow() {
	p.t.Helper()
	p.commit(store.SetBALState{Address: readBAL, State: store.Suspended}) // takes along what was recorded
	p.stop()
}

// TestLostRight: a BAL whose right ends is not there any more; the session goes on with the others, and ends where a mailbox of
// that BAL, or the own BAL, was open.
func TestLostRight(t *testing.T) {
	for name, c := range map[string]struct {
		end  func(p *persons)
		back func(p *persons)
	}{
		"member ended": {func(p *persons) { p.commit(store.EndMember{Address: balAddress, Member: hugo}) },
			func(p *persons) {
				p.commit(store.PutMember{Address: balAddress, Member: store.Member{ID: hugo, Role: store.Writer}})
			}},
		"role lowered": {func(p *persons) {
			p.commit(store.PutMember{Address: balAddress, Member: store.Member{ID: hugo, Role: store.Reader}})
		}, nil},
		"suspended": {func(p *persons) { p.commit(store.SetBALState{Address: balAddress, State: store.Suspended}) },
			func(p *persons) { p.commit(store.SetBALState{Address: balAddress, State: store.Active}) }},
		"its day is over": {func(p *persons) { p.ahead.Store(int64(2 * time.Hour)) }, nil},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPersons(t)
			p.commit(store.PutMember{Address: balAddress, Member: store.Member{ID: hugo, Role: store.Writer, Until: time.Now().Add(time.Hour)}})
			p.receive(balAddress, mail)
			busy, silent, idle, told := p.asHugo(), p.asHugo(), p.asHugo(), p.asHugo()
			silent.ok(`SELECT "` + inWritten + `INBOX"`)
			idle.ok("SELECT INBOX")
			idle.send("i IDLE\r\n")
			idle.line()
			told.ok(`NOTIFY SET (MAILBOXES "` + inWritten + `INBOX" (MessageNew MessageExpunge MailboxName))`)
			if got := len(busy.ok(`LIST "" "` + inWritten + `*"`)); got != 6 {
				t.Fatalf("%d mailboxes are listed", got)
			}
			busy.ok("SELECT INBOX")
			c.end(p)
			// Who said nothing, and has a mailbox of that BAL open, hears of it.
			if l := silent.line(); l != "* BYE Your right to this mailbox has ended" {
				silent.fail("the silent session hears %q", l)
			}
			if l := told.line(); l != `* LIST (\NonExistent \NoAccess) "/" "`+inWritten+`INBOX"` {
				told.fail("NOTIFY says %q", l)
			}
			for _, command := range []string{`LIST "" "` + inWritten + `%"`, `LIST "" "` + under + balAddress + `"`, `LSUB "" "` + inWritten + `*"`} {
				if un := busy.ok(command); len(un) != 0 {
					busy.fail("listed: %q", un)
				}
			}
			for command, want := range map[string]string{`STATUS "%sINBOX" (MESSAGES)`: "NO [NONEXISTENT]", `EXAMINE "%sINBOX"`: "NO [NONEXISTENT]", `MYRIGHTS "%sINBOX"`: "NO [NONEXISTENT]",
				`APPEND "%sINBOX" {4+}` + "\r\nA: b": "NO [TRYCREATE]", `CREATE "%sX"`: "NO [NONEXISTENT]", `SUBSCRIBE "%sX"`: "NO [NONEXISTENT]", `GETMETADATA "%sINBOX" /shared/comment`: "NO [NONEXISTENT]",
				`GETQUOTAROOT "%sINBOX"`: "NO [NONEXISTENT]"} {
				busy.want(fmt.Sprintf(command, inWritten), want)
			}
			busy.want("GETQUOTA "+balAddress, "NO [NONEXISTENT]")
			busy.ok("SELECT INBOX")
			busy.ok(`STATUS "` + inOwned + `INBOX" (MESSAGES)`)
			idle.send("DONE\r\n")
			idle.until("i")
			idle.ok(`SELECT "` + inRead + `INBOX"`)
			other, own := hugo+" "+balAddress+" RightEnded", hugo+" "+ownBAL+" RightEnded"
			p.logouts(other, other, other, other)
			if c.back != nil {
				c.back(p)
				if l := told.line(); !strings.HasPrefix(l, `* LIST (\HasNoChildren \Subscribed) "/" "`+inWritten) && !strings.HasPrefix(l, `* LIST (\HasNoChildren) "/" "`+inWritten) {
					told.fail("NOTIFY says %q", l)
				}
				busy.ok(`STATUS "` + inWritten + `INBOX" (MESSAGES)`)
			}
			// Without the own BAL nothing goes on, whatever is open.
			p.commit(store.EndMember{Address: ownBAL, Member: hugo})
			for _, s := range []*session{idle, busy} {
				if l := s.line(); l != "* BYE Your right to this mailbox has ended" {
					s.fail("without the own BAL: %q", l)
				}
			}
			again := p.asHugo() // and the next one has another BAL in its place
			expect(again, again.ok("GETQUOTAROOT INBOX"), "* QUOTAROOT INBOX "+ownerBAL, "* QUOTA "+ownerBAL+" ()")
			again.ok("LOGOUT")
			p.logouts(own, own, own, other, other, other, other)
		})
	}
}

// logouts waits until the trace has these, sorted: person, BAL and reason. A right that comes back at once may go unnoticed.
func (p *persons) logouts(want ...string) {
	p.t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		if _, err := p.store.Usage(p.t.Context()); err != nil { // all that was recorded is written then
			p.t.Fatal(err)
		}
		var got []string
		p.mu.Lock()
		for _, e := range p.events {
			if e.Kind == trace.Logout {
				got = append(got, e.Person+" "+e.BAL+" "+e.Attr(trace.KeyReason))
			}
		}
		p.mu.Unlock()
		slices.Sort(got)
		if slices.Equal(got, want) {
			return
		}
		if len(got) > len(want) || time.Now().After(end) {
			p.t.Fatalf("the trace has\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
}

// TestLoginsOfSeveral: each BAL of a person has a login in the trace, so that none of them counts as left alone.
func TestLoginsOfSeveral(t *testing.T) {
	p := newPersons(t)
	s := p.asHugo()
	s.ok("LOGOUT")
	all, err := p.store.Usage(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range all {
		if b.Use.Last.IsZero() && slices.Contains([]store.Address{ownBAL, ownerBAL, balAddress, readBAL}, b.Address) {
			t.Errorf("%s counts as never opened", b.Address)
		}
	}
	p.stopNow()
	further := 0
	for _, e := range p.events {
		if e.Kind == trace.Login && e.Attr(trace.KeyNote) == trace.NoteFurther {
			further++
		}
	}
	if further != 3 {
		t.Errorf("%d logins are marked as those to further BALs, want 3", further)
	}
}

// TestOwnMailboxesNamedLikeOthers: mailboxes of the own BAL that an import named like those of other BALs stay within reach; no
// new ones are made.
func TestOwnMailboxesNamedLikeOthers(t *testing.T) {
	p := newPersons(t)
	own := p.in(ownBAL)
	p.commit(store.CreateMailbox{BAL: own.ID, Name: "Other Users/ancien@exemple.test/Dossier"}, store.CreateMailbox{BAL: own.ID, Name: inRead + "INBOX"})
	must[store.UID](t, "deliver")(p.deliverTo(own, prefix, "Other Users/ancien@exemple.test/Dossier", mail))
	p.receive(readBAL, mail)
	p.receive(readBAL, mail)
	s := p.asHugo()
	expect(s, s.ok(`STATUS "Other Users/ancien@exemple.test/Dossier" (MESSAGES)`), `* STATUS "Other Users/ancien@exemple.test/Dossier" (MESSAGES 1)`)
	expect(s, s.ok(`STATUS "`+inRead+`INBOX" (MESSAGES)`), `* STATUS "`+inRead+`INBOX" (MESSAGES 2)`)
	if un := s.ok(`LIST "" "` + inRead + `INBOX"`); len(un) != 1 {
		s.fail("listed twice: %q", un)
	}
	if un := s.ok(`LIST "" "Other Users/ancien@exemple.test/*"`); len(un) != 1 {
		s.fail("not listed: %q", un)
	}
	for _, name := range []string{"Other Users", "Other Users/x", "other users/inconnu@exemple.test/INBOX", under + readBAL} {
		s.want(`CREATE "`+name+`"`, "NO [CANNOT]")
		s.want(`RENAME Junk "`+name+`"`, "NO [CANNOT]")
		s.want(`SUBSCRIBE "`+name+`"`, "NO [CANNOT]")
		s.ok(`UNSUBSCRIBE "` + name + `"`)
	}
	s.ok(`RENAME "Other Users/ancien@exemple.test/Dossier" Dossier`)
	expect(s, s.ok(`STATUS Dossier (MESSAGES)`), `* STATUS Dossier (MESSAGES 1)`)
	// By its address the own BAL has the other one too.
	s = p.dial()
	s.line()
	s.ok(p.authenticate(ownBAL))
	expect(s, s.ok(`STATUS "`+inRead+`INBOX" (MESSAGES)`), `* STATUS "`+inRead+`INBOX" (MESSAGES 0)`)
}

// TestOneBALNeedsNothingMore: a session of one BAL pays nothing for those of several.
func TestOneBALNeedsNothingMore(t *testing.T) {
	p := newPersons(t)
	pr, err := p.srv.Auth.Token(t.Context(), balAddress, p.provider.Token(psctest.Claims{NameID: hugoID, Username: hugoID}), auth.Peer{})
	if err != nil {
		t.Fatal(err)
	}
	sessions := &auth.Sessions{Auth: p.srv.Auth}
	session := sessions.Add(pr, func(error) {})
	if n := testing.AllocsPerRun(100, func() { session.Needs(pr.Grants[0]); session.Needs(auth.Grant{}) }); n != 0 {
		t.Errorf("a session of one BAL allocates %v times", n)
	}
	if _, err := session.Over(); err != nil {
		t.Error(err)
	}
	p.commit(store.EndMember{Address: balAddress, Member: hugo})
	if _, err := session.Over(); !errors.Is(err, auth.ErrWithdrawn) {
		t.Errorf("after the end of the right: %v", err)
	}
}
