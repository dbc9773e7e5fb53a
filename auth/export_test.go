package auth

// EndOver looks once at each session.
func (s *Sessions) EndOver() { s.endOver() }
