package message

import (
	"strconv"
	"strings"
	"time"
)

// parseDate reads a Date field (RFC 5322, Section 3.3, with the obsolete forms of Section 4.3), leniently: day of
// the week and seconds may be missing, years may have two digits, the zone may be a name. Zero when it cannot be read.
func parseDate(v string) time.Time {
	if len(v) > 256 {
		return time.Time{}
	}
	var words []string
	for _, w := range strings.Fields(stripComments(v)) {
		if _, rest, ok := strings.Cut(w, ","); ok { // "Mon," or "Mon,02"
			w = rest
		}
		if w != "" {
			words = append(words, w)
		}
	}
	if len(words) > 0 && words[0][0] > '9' { // a day of the week without its comma
		words = words[1:]
	}
	if len(words) < 4 {
		return time.Time{}
	}
	day, err := strconv.Atoi(words[0])
	month := monthNumber(words[1])
	year, ok := yearNumber(words[2])
	h, m, s, okTime := clock(words[3])
	if err != nil || month == 0 || !ok || !okTime || day < 1 || day > 31 {
		return time.Time{}
	}
	offset := 0
	if len(words) > 4 {
		offset = zoneOffset(words[4])
	}
	t := time.Date(year, month, day, h, m, s, 0, time.FixedZone("", offset*60))
	if t.Day() != day {
		return time.Time{} // 31 February
	}
	return t
}

func stripComments(s string) string {
	i := strings.IndexByte(s, '(')
	if i < 0 {
		return s
	}
	end := skipComment(s, i)
	if end == i+1 {
		return s[:i]
	}
	return s[:i] + " " + strings.ReplaceAll(s[end:], "(", " ")
}

func monthNumber(s string) time.Month {
	const months = "janfebmaraprmayjunjulaugsepoctnovdec"
	if len(s) < 3 {
		return 0
	}
	i := strings.Index(months, strings.ToLower(s[:3]))
	if i < 0 || i%3 != 0 {
		return 0
	}
	return time.Month(i/3 + 1)
}

// yearNumber: RFC 5322, Section 4.3.
func yearNumber(s string) (int, bool) {
	y, err := strconv.Atoi(s)
	if err != nil || y < 0 || y > 9999 || len(s) < 2 || len(s) > 4 {
		return 0, false
	}
	switch {
	case len(s) == 2 && y < 50:
		y += 2000
	case len(s) < 4:
		y += 1900
	}
	return y, y > 0
}

func clock(s string) (h, m, sec int, ok bool) {
	f := strings.Split(s, ":")
	if len(f) < 2 || len(f) > 3 {
		return 0, 0, 0, false
	}
	var n [3]int
	for i, x := range f {
		v, err := strconv.Atoi(x)
		if err != nil || v < 0 || len(x) > 2 {
			return 0, 0, 0, false
		}
		n[i] = v
	}
	return n[0], n[1], min(n[2], 59), n[0] < 24 && n[1] < 60 && n[2] <= 60
}

// zoneOffset is the zone in minutes east; unknown names count as UTC (RFC 5322, Section 4.3).
func zoneOffset(s string) int {
	if len(s) == 5 && (s[0] == '+' || s[0] == '-') {
		n, err := strconv.Atoi(s[1:])
		if err != nil || n < 0 || n%100 > 59 || n > 2359 {
			return 0
		}
		minutes := n/100*60 + n%100
		if s[0] == '-' {
			return -minutes
		}
		return minutes
	}
	switch strings.ToUpper(s) {
	case "EDT":
		return -4 * 60
	case "EST", "CDT":
		return -5 * 60
	case "CST", "MDT":
		return -6 * 60
	case "MST", "PDT":
		return -7 * 60
	case "PST":
		return -8 * 60
	}
	return 0
}
