package admin

import (
	"errors"
	"net/http"
	"strconv"

	"mssd/store"
	"mssd/trace"
)

// A table of rows that is to be done whole or not at all: each row is looked at first, and with a fault in any nothing is done.

// MemberFault is a row that cannot be done.
type MemberFault struct {
	Line int    `json:"line"`
	Text string `json:"text"`
}

// lookAt looks at each row. A *Problem is a fault of the row, any other error ends it.
func lookAt[R any](rows []R, line func(R) int, look func(R) error) (faults []MemberFault, err error) {
	for _, row := range rows {
		err := look(row)
		var p *Problem
		if errors.As(err, &p) {
			faults = append(faults, MemberFault{line(row), p.Error()})
		} else if err != nil {
			return nil, err
		}
	}
	return faults, nil
}

// doTable carries out what the rows of a table came to, unless it is a dry run or has faults.
func (s *Server) doTable(r *http.Request, act string, rows int, dryRun bool, faults []MemberFault, batch *store.Batch) error {
	if dryRun {
		s.Store.Record(event(r, trace.Admin, act+", dry run", trace.Attr{Key: trace.KeyCount, Value: strconv.Itoa(rows)}))
	}
	if dryRun || len(faults) > 0 || len(batch.Ops) == 0 {
		return nil
	}
	_, err := s.Store.Commit(r.Context(), batch) // all of it or nothing
	return err
}
