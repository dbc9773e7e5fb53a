package main

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	"mssd/directory"
)

// TestKillDirectory kills the daemon (-9) again and again while it reads an extraction that grew, saves the image and puts
// it in its place. Whatever is left, the next start has an image at once, whole: the one before or the new one.
func TestKillDirectory(t *testing.T) {
	rounds := 6
	if s := os.Getenv("MSSD_CRASH_ROUNDS"); s != "" {
		n, err := strconv.Atoi(s)
		must(t, err)
		rounds = n
	}
	h := newHouse(t, "[directory.extraction]\nfile = \"x.txt\"\nevery = \"1s\"\n")
	write := func(rows int) {
		t.Helper()
		var b bytes.Buffer
		b.WriteString("Type de BAL|Adresse BAL|Identification Structure|Type identifiant structure\n")
		for i := range rows {
			fmt.Fprintf(&b, "ORG|pharmacie%d@test-officines%d.mssante.fr|%09d|1\n", i, i%500, i)
		}
		must(t, os.WriteFile(h.path("x.new"), b.Bytes(), 0o600))
		must(t, os.Rename(h.path("x.new"), h.path("x.txt")))
	}
	state := h.path("data/state/directory")
	rows, held := 60_000, 0
	for round := range rounds {
		rows += 10
		write(rows)
		var args []string
		if round == 0 {
			args = append(args, "--create")
		}
		h.start(args...)
		time.Sleep(time.Duration(rand.IntN(250)) * time.Millisecond) // anywhere in a reading
		h.kill()
		d, err := directory.Open(directory.Config{Extraction: &directory.ExtractionConfig{File: h.path("none")}, StateDir: state})
		must(t, err)
		st := d.Status().Feeds[0]
		must(t, d.Close())
		if st.LastError != "" {
			t.Fatalf("round %d: %s", round, st.LastError)
		}
		if st.Rows != held && st.Rows != rows {
			t.Fatalf("round %d: %d rows; %d were held, %d were being read", round, st.Rows, held, rows)
		}
		if st.HasImage && st.Rows == held && held > 0 {
			t.Logf("round %d: killed before the new image was in place", round)
		}
		held = st.Rows
	}
	h.start()
	waitUntil(t, "the last extraction to be read", func() bool {
		_, err := h.run("directory", "find", "--structure", fmt.Sprintf("%09d", rows-1))
		return err == nil
	})
	must(t, h.stop())
	if list, err := os.ReadDir(state); err != nil || len(list) > 2 {
		t.Errorf("left behind: %v, %v", list, err)
	}
}
