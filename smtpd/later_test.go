package smtpd

import (
	"testing"
	"time"

	"mssd/directory"
	"mssd/trace"
)

// TestAskedAfterwards: where RCPT was answered without the directory itself, its word stands in the trace of the message.
func TestAskedAfterwards(t *testing.T) {
	w := newWorld(t, nil)
	w.dir[pharmacy] = directory.Decision{Answer: directory.Unknown, Action: directory.Accept, Source: "ldap"}
	w.dir["later:"+pharmacy] = directory.Decision{Answer: directory.KnownOther, Action: directory.Accept, Source: "ldap-live", Live: true, Note: "type differs"}
	w.dir["later:"+doctor] = w.dir["later:"+pharmacy] // known at RCPT: not asked
	p := w.secure("patient")
	asked := func(id string) (evs []trace.Event) {
		t.Helper()
		tid := must(trace.ParseID(id))(t)
		var all []trace.Event
		for end := time.Now().Add(20 * time.Second); len(all) < 4 && time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
			if all = must(w.store.Trace(t.Context(), tid))(t); len(all) == 3 && all[1].BAL == doctor {
				break
			}
		}
		for _, e := range all {
			if e.Kind == trace.Asked {
				evs = append(evs, e)
			}
		}
		return evs
	}
	evs := asked(p.deliver(patient, pharmacy, prescription))
	if len(evs) != 1 || evs[0].BAL != pharmacy || evs[0].Conn == 0 || evs[0].Attr(trace.KeyDirectory) != "known-other" ||
		evs[0].Attr(trace.KeyPolicy) != "accept" || evs[0].Attr(trace.KeyLive) != "yes" || evs[0].Attr(trace.KeyNote) != "type differs" {
		t.Errorf("%+v", evs)
	}
	if evs := asked(p.deliver(patient, doctor, prescription)); len(evs) != 0 {
		t.Errorf("known, and asked: %+v", evs)
	}
}
