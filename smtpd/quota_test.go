package smtpd

import (
	"errors"
	"fmt"
	"maps"
	"testing"
	"time"

	"pgregory.net/rapid"

	"mssd/store"
)

const (
	hugo = "rpps:99900000052"
	lea  = "adeli:759900006"
)

var (
	officine = store.BAL{Address: "pharmacie@officine.test", Kind: store.ORG}
	cabinet  = store.BAL{Address: "cabinet@medecin.test", Kind: store.CAB}
	labo     = store.BAL{Address: "labo@exemple.test", Kind: store.APP}
)

// quotaAt is a Quota whose clock the test sets.
func quotaAt(person, bal, app int) (*Quota, *time.Time) {
	now := time.Date(2026, 11, 23, 14, 3, 0, 0, time.UTC)
	return &Quota{Person: person, BAL: bal, Application: app, Now: func() time.Time { return now }}, &now
}

func TestQuota(t *testing.T) {
	type step struct {
		after  time.Duration // since the last one
		bal    store.BAL
		person string
		n      int
		want   string // the limit that refuses
		give   int    // taken back at once
	}
	for name, tc := range map[string]struct {
		person, bal, app int
		steps            []step
		refused          map[string]uint64
	}{
		"a person": {3, 100, 1, []step{{0, officine, hugo, 3, "", 0}, {0, officine, hugo, 1, "person", 0}, {30 * time.Minute, officine, hugo, 1, "person", 0},
			{0, officine, lea, 3, "", 0}, {35 * time.Minute, officine, hugo, 3, "", 0}, {0, officine, hugo, 1, "person", 0}},
			map[string]uint64{"person": 3, "bal": 0, "application": 0}},
		"a person on two BALs": {3, 100, 1, []step{{0, officine, hugo, 2, "", 0}, {0, cabinet, hugo, 1, "", 0}, {0, cabinet, hugo, 1, "person", 0}},
			map[string]uint64{"person": 1, "bal": 0, "application": 0}},
		"a name of two BALs": {3, 100, 1, []step{{0, officine, "local:lea", 3, "", 0}, {0, cabinet, "local:lea", 3, "", 0}, {0, cabinet, "local:lea", 1, "person", 0}},
			map[string]uint64{"person": 1, "bal": 0, "application": 0}},
		"a BAL": {100, 3, 1, []step{{0, officine, hugo, 2, "", 0}, {0, officine, lea, 1, "", 0}, {0, officine, lea, 1, "bal", 0}, {0, cabinet, lea, 3, "", 0},
			{65 * time.Minute, officine, lea, 1, "", 0}}, map[string]uint64{"person": 0, "bal": 1, "application": 0}},
		"bit by bit": {3, 100, 1, []step{{0, officine, hugo, 1, "", 0}, {20 * time.Minute, officine, hugo, 1, "", 0}, {20 * time.Minute, officine, hugo, 1, "", 0},
			{10 * time.Minute, officine, hugo, 1, "person", 0}, {15 * time.Minute, officine, hugo, 1, "", 0}, {0, officine, hugo, 1, "person", 0}},
			map[string]uint64{"person": 2, "bal": 0, "application": 0}},
		"all or none": {3, 100, 1, []step{{0, officine, hugo, 4, "person", 0}, {0, officine, hugo, 3, "", 0}},
			map[string]uint64{"person": 1, "bal": 0, "application": 0}},
		"what one limit refuses counts for none": {3, 4, 1, []step{{0, officine, hugo, 3, "", 0}, {0, officine, lea, 2, "bal", 0}, {0, cabinet, lea, 3, "", 0}},
			map[string]uint64{"person": 0, "bal": 1, "application": 0}},
		"an application is not held to the limits of persons": {2, 2, 5, []step{{0, labo, "cert:CN=labo", 5, "", 0}, {0, labo, "cert:CN=autre", 1, "application", 0},
			{0, officine, hugo, 2, "", 0}}, map[string]uint64{"person": 0, "bal": 0, "application": 1}},
		"taken back": {3, 3, 1, []step{{0, officine, hugo, 3, "", 2}, {7 * time.Minute, officine, hugo, 2, "", 0}, {0, officine, hugo, 1, "person", 0}},
			map[string]uint64{"person": 1, "bal": 0, "application": 0}},
		"clock put back": {3, 100, 1, []step{{0, officine, hugo, 3, "", 0}, {-24 * time.Hour, officine, hugo, 1, "person", 0}},
			map[string]uint64{"person": 1, "bal": 0, "application": 0}},
		"defaults": {0, 0, 0, []step{{0, officine, hugo, 500, "", 0}, {0, officine, hugo, 1, "person", 0}, {0, officine, lea, 500, "", 0},
			{0, officine, "local:a", 1, "bal", 0}, {0, labo, "cert:CN=labo", 50_000, "", 0}, {0, labo, "cert:CN=labo", 1, "application", 0}},
			map[string]uint64{"person": 1, "bal": 1, "application": 1}},
	} {
		t.Run(name, func(t *testing.T) {
			q, now := quotaAt(tc.person, tc.bal, tc.app)
			for i, s := range tc.steps {
				*now = now.Add(s.after)
				err := q.Take(s.bal, s.person, s.n)
				var of *QuotaError
				switch {
				case s.want == "" && err != nil:
					t.Fatalf("step %d: %v", i, err)
				case s.want != "" && (!errors.Is(err, ErrQuota) || !errors.As(err, &of) || of.Of != s.want):
					t.Fatalf("step %d: %v, want %s", i, err, s.want)
				}
				q.Give(s.bal, s.person, s.give, *now)
			}
			if got := q.Refused(); !maps.Equal(got, tc.refused) {
				t.Errorf("%v, want %v", got, tc.refused)
			}
		})
	}
	var none *Quota
	if err := none.Take(officine, hugo, 1<<30); err != nil {
		t.Error(err)
	}
	none.Give(officine, hugo, 1, time.Now())
}

// TestQuotaHeld: who holds a transaction for longer than an hour has nothing of it back. What was taken for it is no longer
// counted, and later messages are.
func TestQuotaHeld(t *testing.T) {
	q, now := quotaAt(3, 100, 1)
	began := *now
	check(t, q.Take(officine, hugo, 3))
	*now = now.Add(70 * time.Minute)
	check(t, q.Take(officine, hugo, 3))
	q.Give(officine, hugo, 3, began)
	if err := q.Take(officine, hugo, 1); !errors.Is(err, ErrQuota) {
		t.Errorf("more than the limit within an hour: %v", err)
	}
	began = *now
	*now = now.Add(50 * time.Minute)
	q.Give(officine, hugo, 3, began) // as if the second message had not been stored
	check(t, q.Take(officine, hugo, 3))
}

// TestQuotaProperty: in no hour are more recipients taken than the limit, and who was silent for 65 minutes has all of it.
func TestQuotaProperty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const limit = 20
		q, now := quotaAt(limit, 1_000_000, 1)
		type taken struct {
			at time.Time
			n  int
		}
		var all []taken
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			*now = now.Add(time.Duration(rapid.Int64Range(0, int64(70*time.Minute)).Draw(t, "pause")))
			n := rapid.IntRange(1, limit).Draw(t, "n")
			sum, last := 0, time.Time{}
			for _, x := range all {
				if now.Sub(x.at) < time.Hour {
					sum += x.n
				}
				last = x.at
			}
			err := q.Take(officine, hugo, n)
			switch {
			case err == nil && sum+n > limit:
				t.Fatalf("%d within an hour", sum+n)
			case err != nil && now.Sub(last) >= 65*time.Minute:
				t.Fatal("refused after a silence")
			case err == nil && rapid.Bool().Draw(t, "given back"):
				q.Give(officine, hugo, n, *now)
			case err == nil:
				all = append(all, taken{*now, n})
			}
		}
	})
}

// TestQuotaMemory: no more is remembered than the bound, those who write now rather than those who are silent.
func TestQuotaMemory(t *testing.T) {
	q, now := quotaAt(1, 1, 1)
	q.most = 100
	for i := range 1000 {
		bal := store.BAL{Address: store.Address(fmt.Sprintf("b%d@officine.test", i)), Kind: store.ORG}
		if err := q.Take(bal, fmt.Sprintf("rpps:%011d", i), 1); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(q.keys); n > 100 {
		t.Errorf("%d keys", n)
	}
	*now = now.Add(70 * time.Minute)
	q.keys = nil
	for i := range 40 {
		_ = q.Take(store.BAL{Address: store.Address(fmt.Sprintf("old%d@officine.test", i)), Kind: store.ORG}, fmt.Sprintf("rpps:%011d", i), 1)
	}
	*now = now.Add(70 * time.Minute)
	for i := range 12 {
		_ = q.Take(store.BAL{Address: store.Address(fmt.Sprintf("new%d@officine.test", i)), Kind: store.ORG}, fmt.Sprintf("adeli:%d", i), 1)
	}
	for i := range 12 {
		if q.Take(store.BAL{Address: "other@officine.test", Kind: store.ORG}, fmt.Sprintf("adeli:%d", i), 1) == nil {
			t.Errorf("the count of %d, who wrote just now, was forgotten for those who are silent", i)
		}
	}
}
