package store

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
)

// appendUID adds a UID greater than all in runs.
func appendUID(runs []Run, uid UID) []Run {
	if n := len(runs); n > 0 && runs[n-1].First+UID(runs[n-1].Count) == uid {
		runs[n-1].Count++
		return runs
	}
	return append(runs, Run{uid, 1})
}

// normal returns runs sorted, without overlap, touching ones joined; it does not change its argument.
func normal(runs []Run) []Run {
	ok := true
	for i, r := range runs {
		if r.Count == 0 || r.First == 0 || uint64(r.First)+uint64(r.Count) > 1<<32 || i > 0 && uint64(runs[i-1].First)+uint64(runs[i-1].Count) >= uint64(r.First) {
			ok = false
			break
		}
	}
	if ok {
		return runs
	}
	in := slices.Clone(runs)
	slices.SortFunc(in, func(a, b Run) int { return cmp.Compare(a.First, b.First) })
	var out []Run
	for _, r := range in {
		if r.Count == 0 {
			continue
		}
		if r.First == 0 {
			if r.First++; r.Count == 1 {
				continue
			}
			r.Count--
		}
		end := min(uint64(r.First)+uint64(r.Count), 1<<32) // exclusive
		r.Count = uint32(end - uint64(r.First))
		if n := len(out); n > 0 && uint64(out[n-1].First)+uint64(out[n-1].Count) >= uint64(r.First) {
			last := &out[n-1]
			if e := uint64(last.First) + uint64(last.Count); end > e {
				last.Count = uint32(end - uint64(last.First))
			}
			continue
		}
		out = append(out, r)
	}
	return out
}

// without returns the UIDs of runs that are not in gone; both normal.
func without(runs, gone []Run) []Run {
	if len(gone) == 0 {
		return runs
	}
	var out []Run
	for _, r := range runs {
		first, end := uint64(r.First), uint64(r.First)+uint64(r.Count)
		i, _ := slices.BinarySearchFunc(gone, first, func(g Run, f uint64) int {
			return cmp.Compare(uint64(g.First)+uint64(g.Count), f+1)
		})
		for ; i < len(gone) && uint64(gone[i].First) < end; i++ {
			if g := uint64(gone[i].First); g > first {
				out = append(out, Run{UID(first), uint32(g - first)})
			}
			first = max(first, uint64(gone[i].First)+uint64(gone[i].Count))
		}
		if first < end {
			out = append(out, Run{UID(first), uint32(end - first)})
		}
	}
	return out
}

// within reports the place of uid among the UIDs of runs, counted from 0.
func within(runs []Run, uid UID) (int, bool) {
	n := 0
	for _, r := range runs {
		if uid >= r.First && uint64(uid) < uint64(r.First)+uint64(r.Count) {
			return n + int(uid-r.First), true
		}
		n += int(r.Count)
	}
	return 0, false
}

// at is the UID at a place of runs.
func at(runs []Run, i int) (UID, bool) {
	for _, r := range runs {
		if i < int(r.Count) {
			return r.First + UID(i), true
		}
		i -= int(r.Count)
	}
	return 0, false
}

func count(runs []Run) int {
	n := 0
	for _, r := range runs {
		n += int(r.Count)
	}
	return n
}

// formatRuns writes the IMAP set form (RFC 9051, Section 9, sequence-set).
func formatRuns(runs []Run) string {
	var b []byte
	for i, r := range runs {
		if i > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendUint(b, uint64(r.First), 10)
		if r.Count > 1 {
			b = append(b, ':')
			b = strconv.AppendUint(b, uint64(r.Last()), 10)
		}
	}
	return string(b)
}

// parseRuns reads what formatRuns wrote; ok is false for anything else.
func parseRuns(s string) (runs []Run, ok bool) {
	for len(s) > 0 {
		part := s
		if i := strings.IndexByte(s, ','); i >= 0 {
			part, s = s[:i], s[i+1:]
		} else {
			s = ""
		}
		lo, hi := part, part
		if i := strings.IndexByte(part, ':'); i >= 0 {
			lo, hi = part[:i], part[i+1:]
		}
		a, err1 := strconv.ParseUint(lo, 10, 32)
		b, err2 := strconv.ParseUint(hi, 10, 32)
		if err1 != nil || err2 != nil || a == 0 {
			return nil, false
		}
		if a > b {
			a, b = b, a
		}
		runs = append(runs, Run{UID(a), uint32(b - a + 1)})
	}
	return runs, true
}
