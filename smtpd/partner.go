package smtpd

import (
	"net/netip"

	"mssd/tlsconf"
	"mssd/tlsconf/guard"
)

// A Partner is an operator that is expected to send much, such as the patient platform. It is known by the networks
// it connects from, before anything is said, or by the name in its certificate, after the handshake.
type Partner struct {
	Addresses []netip.Prefix // not counted by MaxConnsPerAddr, never sent away for another
	DN        tlsconf.DN     // zero: none; MaxConns in place of MaxConnsPerPeer
	MaxConns  int            // live connections; 0: as many as there is room for
}

func (s *Server) partners() []guard.Partner {
	var list []guard.Partner
	for _, p := range s.Partners {
		if len(p.Addresses) > 0 {
			list = append(list, guard.Partner{Addresses: p.Addresses, MaxConns: p.MaxConns})
		}
	}
	return list
}

// connsOf is how many connections a proven operator may have.
func (s *Server) connsOf(dn tlsconf.DN) int {
	for _, p := range s.Partners {
		if !p.DN.IsZero() && p.DN.Equal(dn) {
			if p.MaxConns > 0 {
				return p.MaxConns
			}
			return s.set.Limits().MaxConns
		}
	}
	return s.MaxConnsPerPeer
}

// whyEnding is what a connection is told that is hung up while it waits.
func whyEnding(g *guard.Conn) error {
	if g.Evicted() {
		return errMadeRoom
	}
	return errEnding
}
