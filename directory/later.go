package directory

import (
	"context"
)

const maxLater = 256 // questions that wait; more are dropped

// laterQuestion is a question that no recipient waits for.
type laterQuestion struct {
	q    Query
	dec  Decision
	tell func(Decision)
}

// Later asks the server about a recipient that was accepted without its word, for the trace: the images did not know it, or
// not so. It returns at once; Run asks, one question at a time, and tell is called with the answer and the action that was
// taken. It is not called when nothing is to be asked, when too many questions wait, or when the server does not answer.
func (d *Directory) Later(q Query, dec Decision, tell func(Decision)) {
	if d.live == nil || dec.Live || dec.Answer == 0 || dec.Answer == Known || !dec.Action.accepts() {
		return
	}
	select {
	case d.later <- laterQuestion{q, dec, tell}:
	default:
		d.live.drops.Add(1)
	}
}

// askLater works off what Later left, until ctx ends.
func (d *Directory) askLater(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case l := <-d.later:
			if dec := d.askLive(ctx, &l.q, l.dec); dec.Answer != CannotTell {
				l.tell(dec)
			}
		}
	}
}

// askLive puts the word of the server itself in place of the answer; CannotTell where it gives none. The action stays.
func (d *Directory) askLive(ctx context.Context, q *Query, dec Decision) Decision {
	ctx, cancel := context.WithTimeout(ctx, d.cfg.LiveDeadline)
	defer cancel()
	rows, err := d.live.ask(ctx, q.Address)
	dec.Live = true
	switch {
	case err != nil:
		dec.Answer, dec.Note = CannotTell, "the live question failed"
		d.cfg.Log.Debug("live question failed", "err", err)
		return dec
	case len(rows) == 0:
		dec.Answer, dec.Note = Unknown, "asked live"
	default:
		dec.Answer, dec.Note = compare(*q, rows)
	}
	dec.Source, dec.Age = "ldap-live", 0
	return dec
}
