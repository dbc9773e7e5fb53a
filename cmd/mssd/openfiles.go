package main

import (
	"cmp"
	"fmt"
	"math"
	"strings"

	"golang.org/x/sys/unix"

	"mssd/tlsconf/guard"
)

// What a connection can hold open at a time. Whoever runs out of descriptors can neither accept nor store: so that an
// attacker cannot bring that about, all connections together must fit.
const (
	filesKept     = 256 // the store, listeners, the socket of the command line, the directory, lookups
	filesPerSMTP  = 3   // the socket, the message that comes in, a question to the DNS (DKIM)
	filesPerIMAP  = 2   // the socket, the message that comes in or goes out
	leastAtATime  = 20  // connections of a front; with less there is no service
	unlimitedOpen = math.MaxInt32
)

// connections is the most at a time, for each front.
type connections struct{ smtp, imap, submission int }

// openFileLimit raises the soft limit of open files to the hard one and returns it.
func openFileLimit() (int, error) {
	var l unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &l); err != nil {
		return 0, fmt.Errorf("limit of open files: %w", err)
	}
	if l.Cur < l.Max { // what the Go runtime does as well, unless somebody has changed it since
		soft := l
		soft.Cur = l.Max
		if unix.Setrlimit(unix.RLIMIT_NOFILE, &soft) == nil {
			l = soft
		}
	}
	return int(min(l.Cur, unlimitedOpen)), nil
}

// connectionsWithin fits the connections into a limit of open files: as configured, or less and a warning that says so.
// The operator front, through which all mail comes, is cut last: only when it alone wants more than half of the room.
func (c *Config) connectionsWithin(limit int) (n connections, warning string, err error) {
	kept := filesKept
	n = connections{smtp: c.SMTP.MaxConnections, imap: c.IMAP.MaxConnections}
	senders := c.submissionFronts()
	if s := c.Submission; s != nil {
		n.submission = s.MaxConnections
		if len(s.ProxyFrom) > 0 {
			for _, f := range senders {
				kept += guard.MaxHeaders * len(f.addrs)
			}
		}
	}
	perSender := filesPerSMTP * len(senders)
	list := c.imapFronts()
	fronts := len(list)
	if len(c.SMTP.ProxyFrom) > 0 {
		kept += guard.MaxHeaders * len(c.SMTP.Listen)
	}
	if len(c.IMAP.ProxyFrom) > 0 {
		for _, f := range list {
			kept += guard.MaxHeaders * len(f.addrs)
		}
	}
	wanted := kept + filesPerSMTP*n.smtp + filesPerIMAP*fronts*n.imap + perSender*n.submission
	if wanted <= limit {
		return n, "", nil
	}
	room := limit - kept
	n.smtp = min(n.smtp, room/2/filesPerSMTP)
	if n.submission > 0 {
		n.submission = min(n.submission, (room-filesPerSMTP*n.smtp)/4/max(perSender, 1))
	}
	n.imap = min(n.imap, (room-filesPerSMTP*n.smtp-perSender*n.submission)/(filesPerIMAP*max(fronts, 1)))
	n.smtp = min(c.SMTP.MaxConnections, (room-filesPerIMAP*fronts*n.imap-perSender*n.submission)/filesPerSMTP)
	text := fmt.Sprintf("this process may have %d files open, and smtp.max_connections (%d) and imap.max_connections (%d on each of %d fronts) can take %d",
		limit, c.SMTP.MaxConnections, c.IMAP.MaxConnections, fronts, wanted)
	cure := fmt.Sprintf("Write LimitNOFILE=%d into [Service] of the unit (systemctl edit mssd), or set these keys lower", roundUp(wanted))
	keys := "smtp.max_connections, imap.max_connections"
	submitting := 0
	if s := c.Submission; s != nil {
		submitting, keys = s.MaxConnections, keys+", submission.max_connections"
		text += fmt.Sprintf(" together with submission.max_connections (%d on each of %d fronts)", submitting, len(senders))
	}
	if n.smtp < min(leastAtATime, c.SMTP.MaxConnections) || n.imap < min(leastAtATime, c.IMAP.MaxConnections) || n.submission < min(leastAtATime, submitting) {
		return n, "", &configError{c.name(), []fault{{Key: keys, Text: text + ". " + cure}}}
	}
	var cut []string
	for _, k := range []struct {
		key       string
		was, done int
	}{{"smtp.max_connections", c.SMTP.MaxConnections, n.smtp}, {"imap.max_connections", c.IMAP.MaxConnections, n.imap}, {"submission.max_connections", submitting, n.submission}} {
		if k.done < k.was {
			cut = append(cut, fmt.Sprintf("%s is %d", k.key, k.done))
		}
	}
	return n, text + ": " + strings.Join(cut, " and ") + " instead. " + cure, nil
}

// roundUp is the next power of two.
func roundUp(n int) int {
	p := 1024
	for p < n {
		p *= 2
	}
	return p
}

// connectionsNow is connectionsWithin the limit of this process.
func (c *Config) connectionsNow() (connections, string, error) {
	limit, err := openFileLimit()
	n, warning, ferr := c.connectionsWithin(limit)
	return n, warning, cmp.Or(err, ferr)
}
