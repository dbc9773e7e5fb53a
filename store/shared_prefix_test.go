package store_test

import (
	"fmt"
	"testing"

	"pgregory.net/rapid"

	"mssd/store"
	"mssd/store/storetest"
)

// TestCopyKeepsOwnPrefix copies and moves a message into a BAL that received it too, with another prefix: the BAL goes on
// showing it with its own, and counts the octets of that.
func TestCopyKeepsOwnPrefix(t *testing.T) {
	for _, move := range []bool{false, true} {
		t.Run(fmt.Sprint("move ", move), func(t *testing.T) {
			s := storetest.New(t)
			a, b := storetest.AddBAL(t, s, "a@bal.example", store.ORG), storetest.AddBAL(t, s, "b@bal.example", store.ORG)
			in, other := box(t, s, a.ID, "INBOX"), box(t, s, b.ID, "INBOX")
			const own = "P: a longer one\r\n"
			res, err := s.Commit(ctx, &store.Batch{Blob: storetest.NewBlob(t, s, raw), Ops: []store.Op{
				store.AddMessage{Ref: in.Ref, Prefix: []byte("P: 1\r\n")}, store.AddMessage{Ref: other.Ref, Prefix: []byte(own)}}})
			if err != nil {
				t.Fatal(err)
			}
			size := int64(len(own) + len(raw))
			var op store.Op = store.Copy{From: in.Ref, Runs: one(1), To: other.Ref}
			if move {
				op = store.Move{From: in.Ref, Runs: one(1), To: other.Ref}
			}
			// The quota is judged by what it takes here: one octet too little refuses it.
			do(t, s, store.SetQuota{Address: b.Address, Octets: new(2*size - 1)})
			if _, err := s.Commit(ctx, &store.Batch{Ops: []store.Op{op}}); err == nil {
				t.Fatal("the quota was overrun")
			}
			do(t, s, store.SetQuota{Address: b.Address, Octets: new(2 * size)}, op)
			got := rows(t, s, other.Ref)
			if len(got) != 2 || got[0].Size != size || got[1].Size != size {
				t.Fatalf("%+v, want two rows of %d octets", got, size)
			}
			if text := read(t, s, b.ID, res.ID); text != own+raw {
				t.Errorf("it shows %q", text)
			}
			if n := len(rows(t, s, in.Ref)); move != (n == 0) {
				t.Errorf("%d rows are left where it came from", n)
			}
		})
	}
}

// TestCopyBetweenBALsModel delivers to two BALs, to each with a prefix of its own, copies and moves to and fro and
// expunges: what a BAL shows never changes while it has the message, and rows count what they show.
func TestCopyBetweenBALsModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		s := storetest.New(t)
		var refs [2]store.Ref
		shown := [2]map[store.MessageID]string{{}, {}} // what a BAL shows of a message that it has
		for i, addr := range []store.Address{"a@bal.example", "b@bal.example"} {
			refs[i] = box(t, s, storetest.AddBAL(t, s, addr, store.ORG).ID, "INBOX").Ref
		}
		pick := func() []store.Run {
			return []store.Run{{First: store.UID(rapid.IntRange(1, 12).Draw(rt, "first")), Count: uint32(rapid.IntRange(1, 3).Draw(rt, "count"))}}
		}
		check := func(*rapid.T) {
			for i, ref := range refs {
				has := map[store.MessageID]bool{}
				for _, r := range rows(t, s, ref) {
					has[r.Message] = true
					if text := read(t, s, ref.BAL, r.Message); text != shown[i][r.Message] || r.Size != int64(len(text)) {
						rt.Fatalf("BAL %d, UID %d: %q of %d octets, want %q", i, r.UID, text, r.Size, shown[i][r.Message])
					}
				}
				for id := range shown[i] {
					if !has[id] {
						delete(shown[i], id)
					}
				}
			}
		}
		across := func(move bool) func(*rapid.T) {
			return func(rt *rapid.T) {
				i := rapid.IntRange(0, 1).Draw(rt, "from")
				runs := pick()
				for _, r := range rows(t, s, refs[i]) {
					if _, ok := shown[1-i][r.Message]; !ok && in(runs, r.UID) {
						shown[1-i][r.Message] = shown[i][r.Message]
					}
				}
				if move {
					do(t, s, store.Move{From: refs[i], Runs: runs, To: refs[1-i]})
				} else {
					do(t, s, store.Copy{From: refs[i], Runs: runs, To: refs[1-i]})
				}
			}
		}
		rt.Repeat(map[string]func(*rapid.T){
			"": check,
			"deliver": func(rt *rapid.T) {
				var ops []store.Op
				var p [2]string
				for i := range refs {
					if rapid.Bool().Draw(rt, "to") || i == 1 && len(ops) == 0 {
						p[i] = fmt.Sprintf("P: %0*d\r\n", rapid.IntRange(1, 9).Draw(rt, "length"), i)
						ops = append(ops, store.AddMessage{Ref: refs[i], Prefix: []byte(p[i])})
					}
				}
				res, err := s.Commit(ctx, &store.Batch{Blob: storetest.NewBlob(t, s, raw), Ops: ops})
				if err != nil {
					rt.Fatal(err)
				}
				for i := range refs {
					if p[i] != "" {
						shown[i][res.ID] = p[i] + raw
					}
				}
			},
			"copy": across(false), "move": across(true),
			"expunge": func(rt *rapid.T) {
				i := rapid.IntRange(0, 1).Draw(rt, "box")
				do(t, s, store.Expunge{Ref: refs[i], Runs: pick(), All: true})
			},
		})
		storetest.Check(t, s)
		if err := s.Close(); err != nil {
			rt.Fatal(err)
		}
	})
}
