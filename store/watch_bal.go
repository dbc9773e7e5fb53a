package store

import "maps"

// WatchBAL begins to watch who may open a BAL: its state and its members. The watcher of a BAL that does not exist is
// told at once.
func (s *Store) WatchBAL(id BALID) *Watcher {
	w := &Watcher{c: make(chan struct{}, 1), s: s, bal: id}
	w.C = w.c
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.mem
	if m.bals[id] == nil {
		w.wake()
		return w
	}
	if m.rights[id] == nil {
		m.rights[id] = map[*Watcher]struct{}{}
	}
	m.rights[id][w] = struct{}{}
	return w
}

// closeBAL ends the watching of a BAL; under Store.mu.
func (w *Watcher) closeBAL() {
	m := w.s.mem
	delete(m.rights[w.bal], w)
	if len(m.rights[w.bal]) == 0 {
		delete(m.rights, w.bal)
	}
}

// wakeRights tells the watchers of a BAL when b, which is about to replace it, differs in its state or members;
// under Store.mu.
func (m *memory) wakeRights(b *balState) {
	watchers, old := m.rights[b.ID], m.bals[b.ID]
	news := m.news[b.ID]
	if len(watchers)+len(news) == 0 || old == nil || old.State == b.State && maps.Equal(old.members, b.members) {
		return
	}
	for w := range watchers {
		w.wake()
	}
	for n := range news {
		n.add(func(t *Tidings) { t.Rights = true })
	}
}
