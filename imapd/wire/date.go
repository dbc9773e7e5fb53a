package wire

import (
	"strings"
	"time"
)

const months = "JanFebMarAprMayJunJulAugSepOctNovDec"

// parseDate reads "1-Feb-1994", the day of one or two digits (RFC 9051, Section 9, date-text).
func parseDate(s string) (time.Time, bool) {
	day, rest, _ := strings.Cut(s, "-")
	mon, year, _ := strings.Cut(rest, "-")
	if len(day) < 1 || len(day) > 2 || len(mon) != 3 || len(year) != 4 {
		return time.Time{}, false
	}
	d, ok1 := parseUint([]byte(day), 31)
	y, ok2 := parseUint([]byte(year), 9999)
	m := -1
	for i := range 12 {
		if strings.EqualFold(mon, months[3*i:3*i+3]) {
			m = i + 1
		}
	}
	if !ok1 || !ok2 || m < 0 || y == 0 {
		return time.Time{}, false
	}
	t := time.Date(int(y), time.Month(m), int(d), 0, 0, 0, 0, time.UTC)
	return t, t.Day() == int(d) && d > 0
}

// parseDateTime reads "17-Jul-1996 02:44:25 -0700", a day of one digit after a space (date-time, without quotes).
func parseDateTime(s string) (time.Time, bool) {
	if len(s) != 26 || s[11] != ' ' || s[14] != ':' || s[17] != ':' || s[20] != ' ' {
		return time.Time{}, false
	}
	day, ok := parseDate(strings.TrimPrefix(s[:11], " "))
	two := func(at int, max uint64) int {
		n, good := parseUint([]byte(s[at:at+2]), max)
		ok = ok && good
		return int(n)
	}
	h, m, sec := two(12, 23), two(15, 59), two(18, 60)
	zone := 3600*two(22, 23) + 60*two(24, 59)
	switch s[21] {
	case '-':
		zone = -zone
	case '+':
	default:
		ok = false
	}
	if !ok {
		return time.Time{}, false
	}
	return time.Date(day.Year(), day.Month(), day.Day(), h, m, min(sec, 59), 0, time.FixedZone("", zone)), true
}

// date reads the date of a search key, with or without quotes.
func (l *lexer) date() (time.Time, error) {
	s, err := l.astring()
	if err != nil {
		return time.Time{}, err
	}
	t, ok := parseDate(s)
	if !ok {
		return time.Time{}, bad("Malformed date")
	}
	return t, nil
}

// AppendInternalDate appends t as a date-time with its quotes. Years out of four digits have no syntax: they are
// brought to the nearest that has.
func AppendInternalDate(dst []byte, t time.Time) []byte {
	if _, off := t.Zone(); off%60 != 0 || off <= -24*3600 || off >= 24*3600 {
		t = t.UTC()
	}
	switch y := t.Year(); {
	case y < 1:
		t = time.Date(1, 1, 1, 0, 0, 0, 0, time.UTC)
	case y > 9999:
		t = time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)
	}
	return t.AppendFormat(dst, `"_2-Jan-2006 15:04:05 -0700"`)
}
