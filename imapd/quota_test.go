package imapd

import (
	"fmt"
	"strings"
	"testing"

	"github.com/emersion/go-imap/v2"

	"mssd/store"
)

// TestQuota: the gauge tells what the store counts, in units of 1024 octets, and follows it.
func TestQuota(t *testing.T) {
	w := newWorld(t, nil)
	octets, messages := int64(10<<10), int64(7)
	w.commit(store.SetQuota{Address: balAddress, Octets: &octets, Messages: &messages})
	w.deliver("INBOX", mail)
	s := w.login(ownerName, "INBOX")
	size := int64(len(prefix + mail))
	expect(s, s.ok("GETQUOTAROOT INBOX"), "* QUOTAROOT INBOX "+balAddress,
		fmt.Sprintf("* QUOTA %s (STORAGE %d 10 MESSAGE 1 7)", balAddress, (size+1023)/1024))
	w.deliver("Archive", strings.Repeat("x", 5000)+"\r\n")
	expect(s, s.ok("GETQUOTA "+balAddress), fmt.Sprintf("* QUOTA %s (STORAGE %d 10 MESSAGE 2 7)", balAddress, (size+int64(len(prefix))+5002+1023)/1024))
	s.want(fmt.Sprintf("APPEND INBOX {%d+}\r\n%s", 4000, strings.Repeat("y", 4000)), "OK")
	s.want(fmt.Sprintf("APPEND INBOX {%d+}\r\n%s", 4000, strings.Repeat("y", 4000)), "NO [OVERQUOTA]")
	// RFC 9208, Section 4.1.4: what EXPUNGE would give back.
	expect(s, s.ok("STATUS INBOX (DELETED DELETED-STORAGE)"), "* STATUS INBOX (DELETED 0 DELETED-STORAGE 0)")
	s.ok(`STORE 2 +FLAGS.SILENT (\Deleted)`)
	expect(s, s.ok("STATUS INBOX (DELETED DELETED-STORAGE)"), "* STATUS INBOX (DELETED 1 DELETED-STORAGE 4000)")
	// One resource without a limit is left out.
	none := int64(0)
	w.commit(store.SetQuota{Address: balAddress, Octets: &none})
	expect(s, s.ok("GETQUOTA "+balAddress), fmt.Sprintf("* QUOTA %s (MESSAGE 3 7)", balAddress))
}

// TestEmailID: a copy has the name of its original and is found by it, another message has another.
func TestEmailID(t *testing.T) {
	w := newWorld(t, nil)
	w.deliver("INBOX", mail)
	w.deliver("INBOX", mail)
	s := w.login(ownerName, "INBOX")
	s.ok("UID COPY 1 INBOX")
	s.ok("UID COPY 1 Archive")
	s.ok("NOOP")
	un := s.ok("FETCH 1:3 EMAILID")
	_, first, _ := strings.Cut(un[0], "EMAILID (")
	first = strings.TrimSuffix(first, "))")
	if !strings.HasSuffix(un[2], "("+first+"))") || strings.HasSuffix(un[1], "("+first+"))") {
		s.fail("got %q", un)
	}
	expect(s, s.ok("UID SEARCH EMAILID "+first), "* SEARCH 1 3")
	s.ok("SELECT Archive")
	expect(s, s.ok("UID SEARCH EMAILID "+first), "* SEARCH 1")
}

// TestReaderRights: a reader sees its own rights, and not those of others.
func TestReaderRights(t *testing.T) {
	w := newWorld(t, nil)
	s := w.login(readerName, "")
	expect(s, s.ok("MYRIGHTS INBOX"), "* MYRIGHTS INBOX lr")
	s.want("GETACL INBOX", "NO [NOPERM]")
	s.want("LISTRIGHTS INBOX local:anne", "NO [NOPERM]")
	s.want("SETACL INBOX local:luc lrswitekxacd", "NO [NOPERM]")
	s.want(`CREATE x (USE (\Sent))`, "NO [NOPERM]")
}

// TestGoIMAPRights: an independent client asks for quota, rights and names, and creates a mailbox with a special use.
func TestGoIMAPRights(t *testing.T) {
	w := newWorld(t, nil)
	octets := int64(1 << 20)
	w.commit(store.SetQuota{Address: balAddress, Octets: &octets})
	w.deliver("INBOX", mail)
	c := w.goClient(nil)
	quotas, err := c.GetQuotaRoot("INBOX").Wait()
	if err != nil || len(quotas) != 1 || quotas[0].Root != balAddress || quotas[0].Resources[imap.QuotaResourceStorage].Limit != 1024 {
		t.Errorf("quota: %v %+v", err, quotas)
	}
	mine, err := c.MyRights("INBOX").Wait()
	if err != nil || string(mine.Rights) != "lrswitekxacd" {
		t.Errorf("my rights: %v %+v", err, mine)
	}
	acl, err := c.GetACL("INBOX").Wait()
	if err != nil || len(acl.Rights) != 2 || string(acl.Rights["local:luc"]) != "lr" {
		t.Errorf("acl: %v %+v", err, acl)
	}
	id, err := c.ID(&imap.IDData{Name: "test"}).Wait()
	if err != nil || id.Name != "mssd" {
		t.Errorf("id: %v %+v", err, id)
	}
	if err := c.Delete("Junk").Wait(); err != nil {
		t.Fatal(err)
	}
	if err := c.Create("Indésirables", &imap.CreateOptions{SpecialUse: []imap.MailboxAttr{imap.MailboxAttrJunk}}).Wait(); err != nil {
		t.Errorf("create: %v", err)
	}
	if m := w.box("Indésirables"); m.SpecialUse != `\Junk` {
		t.Errorf("it has %q", m.SpecialUse)
	}
}
