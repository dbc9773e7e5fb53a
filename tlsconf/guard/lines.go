package guard

import (
	"context"
	"log/slog"
	"net"
	"sync"
	"time"
)

// Bounds of what others can make us write into the log, per minute and kind of line.
const (
	lineWindow    = time.Minute
	linesOfOne    = 10 // of one network that has not shown who it is
	linesOfAll    = 60 // of all these together
	linesOfProven = 60 // of one peer that has
)

// lines bounds the lines of a log that strangers can bring about as often as they like: of each kind the first of a
// minute are written, the others counted, and one line says how many there were when the minute is over. No network can
// take the room of all others.
type lines struct {
	mu    sync.Mutex
	log   *slog.Logger // of what is said when a minute is over; nil: nothing is
	began time.Time    // of the minute; zero: none
	one   map[lineOf]int
	all   map[lineKind]*lineCount
	timer *time.Timer
}

type lineKind struct{ msg, code string }

type lineOf struct {
	kind lineKind
	who  string
}

type lineCount struct {
	written, more int
	level         slog.Level
}

// take says whether a line is to be written, or counts it. who is a peer where proven, else a network.
func (l *lines) take(now time.Time, level slog.Level, kind lineKind, who string, proven bool) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.began.IsZero() || now.Sub(l.began) >= lineWindow || now.Before(l.began) {
		l.endMinute()
		l.began, l.one, l.all = now, make(map[lineOf]int), make(map[lineKind]*lineCount)
	}
	n := l.all[kind]
	if n == nil {
		n = &lineCount{}
		l.all[kind] = n
	}
	key, most := lineOf{kind, "net " + who}, linesOfOne
	if proven {
		key, most = lineOf{kind, "peer " + who}, linesOfProven
	}
	if l.one[key] < most && (proven || n.written < linesOfAll) {
		l.one[key]++
		if !proven {
			n.written++
		}
		return true
	}
	n.more++
	n.level = max(n.level, level)
	if l.timer == nil {
		l.timer = time.AfterFunc(lineWindow, l.flush)
	}
	return false
}

func (l *lines) flush() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.endMinute()
}

// endMinute says what was counted; l.mu is held.
func (l *lines) endMinute() {
	for kind, n := range l.all {
		if n.more == 0 || l.log == nil {
			continue
		}
		attrs := []slog.Attr{slog.Int("more", n.more)}
		if kind.code != "" {
			attrs = append(attrs, slog.String("code", kind.code))
		}
		l.log.LogAttrs(context.Background(), n.level, kind.msg, attrs...)
	}
	l.began, l.one, l.all = time.Time{}, nil, nil
	if l.timer != nil {
		l.timer.Stop()
		l.timer = nil
	}
}

// Line writes a line about this connection that its peer can bring about as often as it likes, to the connection's own
// log: ten a minute of each kind for one network, 60 for all, 60 for each peer that has shown who it is. What is more is
// counted and said in one line (LogTo). A kind is a message and a code, of which there are few; "" none.
func (c *Conn) Line(log *slog.Logger, level slog.Level, msg, code string, args ...any) {
	ctx := context.Background()
	if s := c.set; s != nil && log.Enabled(ctx, level) {
		s.mu.Lock()
		peer := c.peer
		s.mu.Unlock()
		who := peer
		if peer == "" {
			who = network(c.RemoteAddr())
		}
		if !s.lines.take(time.Now(), level, lineKind{msg, code}, who, peer != "") {
			return
		}
	}
	log.Log(ctx, level, msg, args...)
}

// LogTo gives the log of what Line has counted. Call it before the first connection.
func (s *Set) LogTo(log *slog.Logger) { s.lines.log = log }

// FlushLines says at once what Line has counted.
func (s *Set) FlushLines() { s.lines.flush() }

func network(a net.Addr) string { return addrKey(a).String() }
