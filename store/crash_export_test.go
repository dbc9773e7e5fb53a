package store

// Queued is the number of batches that wait for the committer.
func (s *Store) Queued() int { return len(s.queue) }
