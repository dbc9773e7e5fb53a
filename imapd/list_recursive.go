package imapd

import "mssd/imapd/wire"

// below is what RECURSIVEMATCH has to say of the names below one (RFC 5258, Section 3.5).
type below struct {
	chosen bool // some are selected
	unseen bool // some of these are not told of themselves: the patterns do not match them
}

// info is the data item CHILDINFO: the options that names below are selected by.
func (b below) info(a wire.List) (options []string) {
	if b.chosen && a.SelectSubscribed {
		options = append(options, "SUBSCRIBED")
	}
	if b.chosen && a.SelectSpecialUse {
		options = append(options, "SPECIAL-USE")
	}
	return options
}

// chosen says whether a name meets the selection options, all of them.
func (e entry) chosen(a wire.List) bool {
	return (!a.SelectSubscribed || e.subscribed) && (!a.SelectSpecialUse || e.box.SpecialUse != "")
}

// recursive looks what is selected below each level. Levels above a subscription that are no mailboxes join the list.
func recursive(a wire.List, list []entry) ([]entry, map[string]below) {
	under, known := make(map[string]below), make(map[string]bool, len(list))
	for _, e := range list {
		known[e.shown] = true
		if !e.chosen(a) {
			continue
		}
		unseen := !matchAny(a, e.shown)
		for i := range len(e.shown) {
			if e.shown[i] == delim {
				b := under[e.shown[:i]]
				under[e.shown[:i]] = below{chosen: true, unseen: b.unseen || unseen}
			}
		}
	}
	for level := range under {
		if !known[level] {
			list = append(list, entry{shown: level})
		}
	}
	sortEntries(list)
	return list, under
}
