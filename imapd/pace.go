package imapd

import "time"

// pace bounds the commands of one session: one that runs in a circle, as fast as it is answered, takes a processor from everybody
// else. A client that is over the rate waits a little before each command; nothing is refused. What any software does lies far
// below, save for the first commands of a great synchronisation, which come at once.
type pace struct {
	spent float64   // commands of late that are not made up for yet
	at    time.Time // as of here
}

// burst is for how many seconds of the rate commands may come at once.
const burst = 2

// next counts a command and says how long it has to wait. rate is the commands of a second.
func (p *pace) next(rate int, now time.Time) time.Duration {
	p.spent = max(0, p.spent-max(0, now.Sub(p.at).Seconds())*float64(rate)) + 1
	p.at = now
	over := p.spent - burst*float64(rate)
	return max(0, time.Duration(over/float64(rate)*float64(time.Second)))
}
