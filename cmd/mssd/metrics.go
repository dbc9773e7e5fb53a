package main

import (
	"cmp"
	"context"
	"encoding/json"
	"math"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"mssd/admin"
	"mssd/directory"
	"mssd/tlsconf"
	"mssd/trace"
)

// metrics counts events of the trace. No label names a person, a BAL or a peer.
type metrics struct {
	registry  *prometheus.Registry
	accepted  prometheus.Counter
	repeated  prometheus.Counter
	submitted prometheus.Counter
	refused   *prometheus.CounterVec
	logins    *prometheus.CounterVec
	fetches   prometheus.Counter
	decided   *prometheus.CounterVec
	advised   *prometheus.CounterVec
}

func newMetrics() *metrics {
	m := &metrics{
		registry:  prometheus.NewRegistry(),
		accepted:  prometheus.NewCounter(prometheus.CounterOpts{Name: "mssd_messages_accepted_total", Help: "Messages stored durably and answered 250."}),
		repeated:  prometheus.NewCounter(prometheus.CounterOpts{Name: "mssd_messages_repeated_total", Help: "Messages received again before their 250 was confirmed; not stored twice."}),
		submitted: prometheus.NewCounter(prometheus.CounterOpts{Name: "mssd_messages_submitted_total", Help: "Messages of members stored durably and answered 250; counted, for each recipient, among those accepted too."}),
		refused:   prometheus.NewCounterVec(prometheus.CounterOpts{Name: "mssd_refused_total", Help: "Refusals by SMTP code."}, []string{"code"}),
		logins:    prometheus.NewCounterVec(prometheus.CounterOpts{Name: "mssd_logins_total", Help: "Logins by outcome."}, []string{"outcome"}),
		fetches:   prometheus.NewCounter(prometheus.CounterOpts{Name: "mssd_fetches_total", Help: "Commands that read messages."}),
	}
	m.decided = prometheus.NewCounterVec(prometheus.CounterOpts{Name: "mssd_directory_decisions_total",
		Help: "Recipients of stored messages, and refused ones, by class of the sender, answer of the directory and what the policy made of it."}, []string{"class", "answer", "action"})
	m.advised = prometheus.NewCounterVec(prometheus.CounterOpts{Name: "mssd_activities_total",
		Help: "Persons who opened a BAL, once a day, by what their activities say of its structure."}, []string{"activity"})
	m.registry.MustRegister(m.decided, m.advised, m.accepted, m.repeated, m.submitted, m.refused, m.logins, m.fetches,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// observe counts one event; the store calls it after the event is durable.
func (m *metrics) observe(e trace.Event) {
	switch e.Kind {
	case trace.Committed:
		m.accepted.Inc()
	case trace.Submitted:
		m.submitted.Inc()
	case trace.Duplicate:
		m.repeated.Inc()
	case trace.Recipient:
		m.decide(e, 1)
	case trace.Refused:
		m.decide(e, times(e))
		m.refused.WithLabelValues(codeLabel(e.Attr(trace.KeyCode))).Add(times(e))
	case trace.Login:
		if e.Attr(trace.KeyNote) != trace.NoteFurther {
			m.logins.WithLabelValues("accepted").Inc()
		}
	case trace.LoginRefused:
		m.logins.WithLabelValues("refused").Add(times(e))
	case trace.Advised:
		if what, ok := strings.CutPrefix(e.Attr(trace.KeyNote), "activity "); ok {
			m.advised.WithLabelValues(what).Inc()
		}
	case trace.Fetched:
		m.fetches.Inc()
	}
}

// decide counts what the directory said of a recipient; of others, as postmaster, it was not asked.
func (m *metrics) decide(e trace.Event, n float64) {
	class, answer, action := e.Attr(trace.KeyClass), e.Attr(trace.KeyDirectory), e.Attr(trace.KeyPolicy)
	if slices.Contains(answers, answer) && class != "" {
		m.decided.WithLabelValues(class, answer, action).Add(n)
	}
}

// answers are what the directory can say.
var answers = []string{directory.Known.String(), directory.KnownOther.String(), directory.Unknown.String(), directory.CannotTell.String()}

// times is how many refusals an event stands for: a front folds those that are alike.
func times(e trace.Event) float64 {
	if n, err := strconv.ParseUint(e.Attr(trace.KeyCount), 10, 32); err == nil && n > 0 {
		return float64(n)
	}
	return 1
}

// codeLabel keeps the basic code of "550 5.1.1": three digits, whatever else stood there.
func codeLabel(code string) string {
	basic, _, _ := strings.Cut(code, " ")
	if len(basic) != 3 || strings.Trim(basic, "0123456789") != "" {
		return "other"
	}
	return basic
}

// gauges registers what is read off the rooms when somebody looks.
func (m *metrics) gauges(d *daemon) {
	gauge := func(name, help string, f func() float64) {
		m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, f))
	}
	gauge("mssd_list_age_seconds", "Time since the white list was last proven current.", func() float64 { return d.list.Age().Seconds() })
	gauge("mssd_directory_age_seconds", "Age of the directory's image; -1 without one.", func() float64 { return directoryAge(d.dir) })
	m.registry.MustRegister(newDirectoryCollector(d.dir.Status))
	gauge("mssd_degraded", "Number of reasons for which the daemon is degraded.", func() float64 { return float64(len(d.Degraded())) })
	m.endings(d)
	gauge("mssd_bals", "BALs held.", func() float64 { return float64(len(d.store.BALs())) })
	gauge("mssd_bals_inactive", "Active BALs without a login for bal.inactivity_notice_days, or 365 days where that is 0.", func() float64 {
		return inactiveBALs(d.store, cmp.Or(d.cfg.BAL.InactivityNoticeDays, inactiveDays))
	})
	for change, count := range map[string]func(admin.Pending) int{"addition": func(p admin.Pending) int { return p.Additions }, "removal": func(p admin.Pending) int { return p.Removals }} {
		m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "mssd_publication_pending",
			Help:        "Entries of our BALs that the Annuaire Santé is to be told of (mssd directory publish).",
			ConstLabels: prometheus.Labels{"change": change},
		}, func() float64 { return float64(count(admin.PendingOf(d.store))) }))
	}
	gauge("mssd_trace_dropped", "Events of the trace that found no room since the start.", func() float64 { return float64(d.store.Dropped()) })
	gauge("mssd_disk_free_octets", "Free space on the disk of the store.", func() float64 {
		free, err := d.store.FreeSpace()
		if err != nil {
			return -1
		}
		return float64(free)
	})
	gauge("mssd_backup_age_seconds", "Age of the latest whole backup that the store knows of, from its moment on; -1 without one.", func() float64 { return backupAge(d.store) })
	gauge("mssd_imap_sessions", "IMAP connections.", func() float64 {
		n := 0
		for _, s := range d.imap {
			n += s.Sessions()
		}
		return float64(n)
	})
	gauge("mssd_submission_sessions", "Connections of the submission fronts.", func() float64 {
		n := 0
		for _, s := range d.submission {
			n += s.Connections()
		}
		return float64(n)
	})
	gauge("mssd_smtp_sessions", "SMTP connections.", func() float64 { return float64(d.smtp.Connections()) })
}

// quota registers how often a limit of recipients an hour was reached.
func (m *metrics) quota(refused func() map[string]uint64) {
	for limit := range refused() {
		m.registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "mssd_submission_limited_total",
			Help:        "Recipients refused because as many had been written to within an hour as may be, by limit.",
			ConstLabels: prometheus.Labels{"limit": limit},
		}, func() float64 { return float64(refused()[limit]) }))
	}
}

// endings registers how long what can end lasts yet.
func (m *metrics) endings(d *daemon) {
	for i, front := range d.tlsNames() {
		m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "mssd_certificate_seconds_left",
			Help:        "How long the certificates of a front last yet, the first to end; negative when it has ended.",
			ConstLabels: prometheus.Labels{"front": front},
		}, func() float64 { return time.Until(d.tls[i].EndsFirst()).Seconds() }))
	}
	for name, what := range map[string]string{"mssd_crl_seconds_left": "revocation list", "mssd_partner_certificate_seconds_left": "partner",
		"mssd_chain_seconds_left": "chain of", "mssd_anchor_seconds_left": "anchor", "mssd_list_seconds_left": "white list",
		"mssd_list_signer_seconds_left": "signer of the list", "mssd_client_certificate_seconds_left": "client certificate"} {
		m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name,
			Help: "How long the " + what + " that ends first lasts yet; negative when it has ended, NaN when there is none.",
		}, func() float64 { return secondsLeft(d.recentDates(), what) }))
	}
	for _, days := range []int{7, 14, 30} {
		m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "mssd_partner_mails_per_day_at_risk",
			Help:        "Mails a day of the partners whose certificate ends within so many days, of the last 30 days.",
			ConstLabels: prometheus.Labels{"days": strconv.Itoa(days)},
		}, func() float64 { return atRisk(d.recentDates(), time.Now().AddDate(0, 0, days)) }))
	}
}

// atRisk sums the mails a day of the partners whose certificate has ended by a time.
func atRisk(dates []tlsconf.Date, by time.Time) (sum float64) {
	for _, d := range dates {
		if strings.HasPrefix(d.What, "partner") && !d.Until.After(by) {
			sum += d.MailsPerDay
		}
	}
	return sum
}

// secondsLeft is the time to the first date of a kind. An anchor that has ended is of a generation that is over.
func secondsLeft(dates []tlsconf.Date, what string) float64 {
	for _, d := range dates {
		if strings.HasPrefix(d.What, what) && (what != "anchor" || time.Until(d.Until) > 0) {
			return time.Until(d.Until).Seconds()
		}
	}
	return math.NaN()
}

// page is the monitoring page: /metrics and /health.
type page struct{ http *http.Server }

func newPage(d *daemon) *page {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(d.metrics.registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /health", func(w http.ResponseWriter, _ *http.Request) {
		h := d.admin.Health()
		w.Header().Set("Content-Type", "application/json")
		if h.Status != "ok" {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		_ = json.NewEncoder(w).Encode(h)
	})
	return &page{&http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: 30 * time.Second}}
}

func (p *page) Serve(l net.Listener) error         { return p.http.Serve(l) }
func (p *page) Shutdown(ctx context.Context) error { return p.http.Shutdown(ctx) }
