package store

import (
	"errors"
	"fmt"
	"time"
)

// ErrToldSince says that something later was acknowledged of a BAL.
var ErrToldSince = errors.New("store: something later was acknowledged of this BAL")

// Told is what the Annuaire Santé is known to have of a BAL: what was acknowledged last.
type Told struct {
	Entry string    // as directory.Change says it; "": it has none
	At    time.Time // of the export that was acknowledged; zero: none ever was
}

// Tell notes what the directory was told of a BAL: Entry, or that it is gone where that is "". An acknowledgement of an
// export older than the last one is refused (ErrToldSince).
type Tell struct {
	Address Address
	Told    Told
}

func (Tell) isOp() {}

func (a *apply) tell(op Tell, res *OpResult) error {
	if len(op.Told.Entry) > maxTold || !plain(op.Told.Entry) || op.Told.At.IsZero() {
		return fmt.Errorf("%w: entry of the directory", ErrInvalid)
	}
	id, ok := a.byAddr[op.Address]
	if !ok {
		if id, ok = a.s.mem.byAddr[op.Address]; !ok {
			return a.s.mem.notFound()
		}
	}
	w, err := a.anyBAL(id) // a destroyed one leaves the directory too
	if err != nil {
		return err
	}
	at := seconds(op.Told.At)
	if at.Before(w.Told.At) {
		return ErrToldSince
	}
	w.Told, res.BAL = Told{op.Told.Entry, at}, id
	return nil
}

// maxTold bounds an entry, octets.
const maxTold = 2 * maxText
