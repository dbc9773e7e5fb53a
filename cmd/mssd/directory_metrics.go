package main

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"mssd/directory"
)

// directoryCollector tells of the feeds what mssd directory status tells.
type directoryCollector struct {
	status                                               func() directory.Status
	age, rows, octets, faults, failing, refused, unsaved *prometheus.Desc
	good, next                                           *prometheus.Desc
}

func newDirectoryCollector(status func() directory.Status) *directoryCollector {
	d := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("mssd_directory_"+name, help, append([]string{"feed"}, labels...), nil)
	}
	return &directoryCollector{
		status:  status,
		age:     d("feed_age_seconds", "Age of the image of a feed; absent without one."),
		rows:    d("rows", "Rows of the image of a feed, by type of BAL.", "kind"),
		octets:  d("octets", "Memory that the image of a feed takes."),
		faults:  d("faulty_rows", "Rows that the last reading left out."),
		failing: d("failing", "1 while the last reading of a feed has failed or was refused."),
		refused: d("refused", "1 while a reading is refused and waits for mssd directory accept."),
		unsaved: d("not_saved", "1 while the image in force is not on disk."),
		good:    d("last_reading_timestamp_seconds", "When a feed was last read with success; absent before."),
		next:    d("next_reading_timestamp_seconds", "When a feed is read next; absent when nobody knows."),
	}
}

func (c *directoryCollector) Describe(out chan<- *prometheus.Desc) {
	prometheus.DescribeByCollect(c, out)
}

// kinds are the labels: what a feed calls a type is its own choice, and their number must be bounded.
var kinds = map[string]bool{"PER": true, "ORG": true, "APP": true, "CAB": true}

func (c *directoryCollector) Collect(out chan<- prometheus.Metric) {
	for _, f := range c.status().Feeds {
		gauge := func(d *prometheus.Desc, v float64, labels ...string) {
			out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, append([]string{f.Name}, labels...)...)
		}
		if f.HasImage {
			gauge(c.age, float64(f.AgeSeconds))
			gauge(c.octets, float64(f.Octets))
			gauge(c.faults, float64(f.Faults))
			other := 0
			for kind, n := range f.RowsByKind {
				if kinds[kind] {
					gauge(c.rows, float64(n), kind)
				} else {
					other += n
				}
			}
			if other > 0 {
				gauge(c.rows, float64(other), "other")
			}
		}
		gauge(c.failing, one(f.LastError != ""))
		gauge(c.refused, one(f.Refused != nil))
		gauge(c.unsaved, one(f.NotSaved != ""))
		for d, t := range map[*prometheus.Desc]time.Time{c.good: f.LastGood, c.next: f.NextTry} {
			if !t.IsZero() {
				gauge(d, float64(t.Unix()))
			}
		}
	}
}

func one(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
