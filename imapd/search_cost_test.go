package imapd

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
)

// TestSetsOfASearch: a thousand sets, each of which names every message of a mailbox that is full of holes, cost no memory that
// grows with both.
func TestSetsOfASearch(t *testing.T) {
	w := newWorld(t, nil)
	w.deliver("INBOX", mail)
	s := w.login(ownerName, "INBOX")
	const n = 1 << 12
	for have := 1; have < n; have *= 2 {
		s.ok("COPY 1:* INBOX")
	}
	var odd []string
	for i := 1; i < n; i += 2 {
		odd = append(odd, fmt.Sprint(i))
	}
	s.ok("STORE " + strings.Join(odd, ",") + ` +FLAGS.SILENT (\Deleted)`)
	s.ok("EXPUNGE")
	s.ok("SEARCH RETURN (SAVE) ALL")
	for _, key := range []string{"UID 1:*", "1:*", "$", fmt.Sprintf("UID %d:2", n)} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		un := s.ok("SEARCH RETURN (COUNT)" + strings.Repeat(" "+key, 900))
		runtime.ReadMemStats(&after)
		expect(s, un, fmt.Sprintf(`* ESEARCH (TAG "t%d") COUNT %d`, s.tag, n/2))
		if grown := after.TotalAlloc - before.TotalAlloc; grown > 4<<20 {
			t.Errorf("%s: %d KB for 900 sets", key, grown>>10)
		}
	}
	for key, want := range map[string]int{"2:3": 2, "*": 1, "UID 1,3,5": 0, "UID 2,3,4": 2, fmt.Sprintf("UID *:%d", 2*n): 1, "1000:2000,1:10,2040:*": 1020} {
		expect(s, s.ok("SEARCH RETURN (COUNT) "+key+" "+key), fmt.Sprintf(`* ESEARCH (TAG "t%d") COUNT %d`, s.tag, want))
	}
	s.want(fmt.Sprintf("SEARCH ALL OR SEEN 1:%d", n), "BAD")
}
