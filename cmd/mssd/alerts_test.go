package main

import (
	"os"
	"regexp"
	"testing"
)

// An alert on a metric that does not exist never fires.
func TestAlertsNameMetricsThatExist(t *testing.T) {
	b, err := os.ReadFile("../../deploy/alerts.yml")
	must(t, err)
	code, err := os.ReadFile("metrics.go")
	must(t, err)
	names := regexp.MustCompile(`mssd_[a-z_]+`).FindAllString(string(b), -1)
	if len(names) < 2 {
		t.Fatalf("metrics named: %v", names)
	}
	for _, n := range names {
		if !regexp.MustCompile(`"` + n + `"`).Match(code) {
			t.Errorf("alerts.yml names %s, which mssd does not have", n)
		}
	}
}
