package audit

func renegotiation(p *player) {
	p.begin("TLS renegotiation in mid-session", "")
	r := p.result()
	r.Outcome, r.Why = NotPlayed, "a TLS client that renegotiates would be needed"
}
