package store

import (
	"bytes"
	"encoding/hex"
	"errors"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func TestNames(t *testing.T) {
	for in, want := range map[string]string{"inbox": "INBOX", "InBoX/x": "INBOX/x", "inboxes": "inboxes", "Sent": "Sent", "": "", "a/inbox": "a/inbox"} {
		if got := canonicalName(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
	if p := parent("a/b/c"); p != "a/b" || parent("a") != "" {
		t.Errorf("%q", p)
	}
}

// TestRuns compares runs with sets of UIDs.
func TestRuns(t *testing.T) {
	gen := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) Run {
		return Run{UID(rapid.IntRange(0, 30).Draw(t, "first")), uint32(rapid.IntRange(0, 6).Draw(t, "count"))}
	}), 0, 8)
	set := func(runs []Run) map[UID]bool {
		m := map[UID]bool{}
		for _, r := range runs {
			for i := range r.Count {
				if u := r.First + UID(i); u != 0 {
					m[u] = true
				}
			}
		}
		return m
	}
	rapid.Check(t, func(t *rapid.T) {
		a, b := gen.Draw(t, "a"), gen.Draw(t, "b")
		na, nb := normal(a), normal(b)
		if d := cmp.Diff(set(a), set(na)); d != "" || len(set(a)) != count(na) {
			t.Fatalf("normal(%v) = %v: %s", a, na, d)
		}
		want := set(a)
		for u := range set(b) {
			delete(want, u)
		}
		if d := cmp.Diff(want, set(without(na, nb))); d != "" {
			t.Fatalf("without(%v, %v) = %v: %s", na, nb, without(na, nb), d)
		}
		back, ok := parseRuns(formatRuns(na))
		if !ok || !slices.Equal(back, na) {
			t.Fatalf("%v printed and read is %v", na, back)
		}
		for i := range count(na) {
			u, _ := at(na, i)
			if j, ok := within(na, u); !ok || i != j {
				t.Fatalf("place %d of %v", i, na)
			}
		}
	})
	if got := normal([]Run{{5, math.MaxUint32}}); got[0].Last() != math.MaxUint32 {
		t.Errorf("%v", got)
	}
}

func TestRecords(t *testing.T) {
	now := time.Unix(1e9, 0).UTC()
	row := Row{UID: 7, ModSeq: 1 << 40, Message: 1 << 60, Flags: Seen | Draft, Keywords: 9, Date: now, Size: 1 << 40, SaveDate: now.Add(time.Hour)}
	v := encodeRow(&row)
	if got, err := decodeRow(keyRow(Ref{1, 2}, 7), v); got != row || err != nil || len(v) > 64 {
		t.Errorf("%+v %v", got, err)
	}
	box := boxRec{Ref: Ref{1, 2}, sealed: "xyz", UIDValidity: 3, UIDNext: 4, HighestModSeq: 5, Pruned: 6, Tombs: 7,
		Messages: 8, Unseen: 9, Deleted: 10, Octets: 11, RecentFrom: 12, Keywords: 13, RetentionDays: 14}
	if got, err := decodeBox(keyBox(box.Ref), encodeBox(&box)); got != box || err != nil {
		t.Errorf("%+v %v", got, err)
	}
	bal := BAL{ID: 1, Address: "a@b.example", Kind: ORG, State: Active, Listing: Unlisted, Structure: "F", Created: now, QuotaOctets: 1, QuotaMessages: 2, Octets: 3, Messages: 4, HeldSince: now}
	if got, err := decodeBAL(keyBAL(1), encodeBAL(bal)); got != bal || err != nil {
		t.Errorf("%+v %v", got, err)
	}
	bal.Told = Told{Entry: "8|99900000052|1|990000119", At: now}
	if got, err := decodeBAL(keyBAL(1), encodeBAL(bal)); got != bal || err != nil {
		t.Errorf("%+v %v", got, err)
	}
	bal.Use = Use{Since: now, Noticed: now}
	if got, err := decodeBAL(keyBAL(1), encodeBAL(bal)); got != bal || err != nil {
		t.Errorf("%+v %v", got, err)
	}
	m := Member{ID: "rpps:1", Role: Writer, From: now, PasswordHash: "h", Ended: true}
	if id, got, err := decodeMember(keyMember(4, m.ID), encodeMember(m)); id != 4 || got != m || err != nil {
		t.Errorf("%+v %v", got, err)
	}
	former := encodeMember(m)
	if _, got, err := decodeMember(keyMember(4, m.ID), former[:len(former)-1]); got != m || err != nil { // before SCRAM
		t.Errorf("of an older record: %+v %v", got, err)
	}
	m.SCRAM = "s"
	if _, got, err := decodeMember(keyMember(4, m.ID), encodeMember(m)); got != m || err != nil {
		t.Errorf("%+v %v", got, err)
	}
	sys := sysRec{Version: FormatVersion, LastBAL: 1, LastMailbox: 2, LastKeywords: 3, LastValidity: 4, LastSeq: 5, LastID: 6, Commits: 7}
	if got, err := decodeSys(encodeSys(sys)); got != sys || err != nil {
		t.Errorf("%+v %v", got, err)
	}
	sys.Version = 0
	if _, err := decodeSys(encodeSys(sys)); err == nil {
		t.Error("another version was read")
	}
}

// TestRecordsOfYesterday reads records as they were written before fields were added at their end.
func TestRecordsOfYesterday(t *testing.T) {
	now := time.Unix(1e9, 0).UTC()
	octets := func(s string) []byte {
		b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	v := octets("1000000000000000 0000010000000000 0011 00000009 000000003b9aca00 0000010000000000")
	want := Row{UID: 7, ModSeq: 1 << 40, Message: 1 << 60, Flags: Seen | Draft, Keywords: 9, Date: now, Size: 1 << 40, SaveDate: now}
	if got, err := decodeRow(keyRow(Ref{1, 2}, 7), v); got != want || err != nil {
		t.Errorf("row: got %+v, %v; want %+v", got, err, want)
	}
	for _, n := range []int{0, len(v) - 1, len(v) + 1, len(v) + 7, len(v) + 9} {
		if _, err := decodeRow(keyRow(Ref{1, 2}, 7), append(v, make([]byte, 9)...)[:n]); !errors.Is(err, ErrCorrupt) {
			t.Errorf("a row of %d octets: %v", n, err)
		}
	}
	v = octets("03 78797a 03 04 05 06 07 08 09 0a 0b 0c 0d")
	box := boxRec{Ref: Ref{1, 2}, sealed: "xyz", UIDValidity: 3, UIDNext: 4, HighestModSeq: 5, Pruned: 6, Tombs: 7,
		Messages: 8, Unseen: 9, Deleted: 10, Octets: 11, RecentFrom: 12, Keywords: 13}
	if got, err := decodeBox(keyBox(box.Ref), v); got != box || err != nil {
		t.Errorf("mailbox: got %+v, %v; want %+v", got, err, box)
	}
	v = octets("0b 6140622e6578616d706c65 02 02 02 01 46 80a8d6b907 02 04 06 08")
	bal := BAL{ID: 1, Address: "a@b.example", Kind: ORG, State: Active, Listing: Unlisted, Structure: "F", Created: now,
		QuotaOctets: 1, QuotaMessages: 2, Octets: 3, Messages: 4}
	if got, err := decodeBAL(keyBAL(1), v); got != bal || err != nil {
		t.Errorf("BAL: got %+v, %v; want %+v", got, err, bal)
	}
	if _, err := decodeBAL(keyBAL(1), v[:len(v)-1]); !errors.Is(err, ErrCorrupt) {
		t.Errorf("a BAL cut short: %v", err)
	}
}

// FuzzDecode gives the decoders any octets: no panic, and what one reads its encoder writes in a form read the same.
func FuzzDecode(f *testing.F) {
	f.Add(encodeBAL(BAL{Address: "a@b.example"}))
	f.Add(encodeBox(&boxRec{Name: "INBOX"}))
	f.Add(encodeRuns([]Run{{1, 5}, {9, 1}}))
	f.Add(encodeKeywords([]string{"a", "b"}))
	f.Fuzz(func(t *testing.T, v []byte) {
		if r, err := decodeBAL(keyBAL(1), v); err == nil {
			if r2, err := decodeBAL(keyBAL(1), encodeBAL(r)); err != nil || r2 != r {
				t.Errorf("BAL %+v, %+v, %v", r, r2, err)
			}
		}
		if r, err := decodeBox(keyBox(Ref{1, 2}), v); err == nil {
			if r2, err := decodeBox(keyBox(Ref{1, 2}), encodeBox(&r)); err != nil || r2 != r {
				t.Errorf("mailbox %+v, %+v, %v", r, r2, err)
			}
		}
		if r, err := decodeBlob(v); err == nil {
			if r2, err := decodeBlob(encodeBlob(r)); err != nil || r2 != r {
				t.Errorf("body %+v, %+v, %v", r, r2, err)
			}
		}
		if r, err := decodeRuns(v); err == nil {
			if r2, err := decodeRuns(encodeRuns(r)); err != nil || !slices.Equal(r, r2) {
				t.Errorf("runs %v, %v, %v", r, r2, err)
			}
		}
		if r, err := decodePrefix(v); err == nil {
			if r2, err := decodePrefix(encodePrefix(r)); err != nil || r2.Refs != r.Refs || !bytes.Equal(r2.Sealed, r.Sealed) {
				t.Errorf("prefix %v, %v", r2, err)
			}
		}
		_, _, _ = decodeMember(keyMember(1, "x"), v)
		_, _ = decodeSys(v)
		_, _ = decodeRow(keyRow(Ref{1, 2}, 3), v)
		_, _ = decodeKeywords(v)
		_, _ = decodeEvent(v)
		_, _ = parseRuns(string(v))
	})
}
