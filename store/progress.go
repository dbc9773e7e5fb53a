package store

// Progress is told now and then how far long work has come: stage names the step in a word or two, done counts up
// to total, which is 0 where it is not known. It is called by one goroutine at a time and must not block. A nil
// Progress is told nothing.
type Progress func(stage string, done, total int64)

func (p Progress) tell(stage string, done, total int64) {
	if p != nil {
		p(stage, done, total)
	}
}
