package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// Priorities of the SRV records of the trust space: clients take that of the front they log in to.
const (
	srvPersons      = 10
	srvApplications = 20
	srvWeight       = 100
)

// services are those that have records, in the order in which they are told.
var services = []string{"imap", "submission"}

// srvTimeout bounds the questions about one domain.
const srvTimeout = 10 * time.Second

// srvRecord is one record of _imap._tcp or _submission._tcp (RFC 2782, RFC 6186).
type srvRecord struct {
	Service  string `json:"service"` // one of services
	Priority uint16 `json:"priority"`
	Weight   uint16 `json:"weight"`
	Port     uint16 `json:"port"`
	Target   string `json:"target"` // without the last dot
}

func (r srvRecord) line(domain string) string {
	return fmt.Sprintf("_%s._tcp.%s. SRV %d %d %d %s.", r.Service, domain, r.Priority, r.Weight, r.Port, r.Target)
}

// srvDomain is what a domain needs, and, where the DNS was asked, what is wrong there.
type srvDomain struct {
	Domain  string      `json:"domain"`
	Records []srvRecord `json:"records"`
	Faults  []string    `json:"faults,omitempty"`
}

// lookupSRV is net.Resolver.LookupSRV.
type lookupSRV func(ctx context.Context, service, proto, name string) (string, []*net.SRV, error)

func newSRV() *cobra.Command {
	var ask asking
	var file string
	var check, program bool
	c := &cobra.Command{
		Use:   "srv [DOMAIN...]",
		Short: "Print the SRV records that clients find the fronts by",
		Long: "Print the SRV records of each domain, or, without one, of each domain that has a BAL here: priority 10 for persons, 20 for\n" +
			"applications (imap.app, submission.app). With --check the DNS is asked, and what is missing or wrong there is told; exit\n" +
			"status 1 then. With --autoconfig what Thunderbird and other programs read to set up an account with a password is printed\n" +
			"instead, for https://autoconfig.DOMAIN/mail/config-v1.1.xml.",
		RunE: func(cmd *cobra.Command, args []string) error {
			if program && (check || ask.json) {
				return usageError{errors.New("--autoconfig prints a file of its own: leave --check and --json out")}
			}
			domains, err := domainArgs(args)
			if err != nil {
				return err
			}
			cfg, err := loadConfig(file)
			if err != nil {
				return err
			}
			if len(domains) == 0 {
				if domains, err = ourDomains(cmd.Context(), &ask); err != nil {
					return err
				}
			}
			if program {
				file, err := cfg.autoconfig(domains)
				if err != nil {
					return err
				}
				return file.print(cmd.OutOrStdout())
			}
			records, err := cfg.srvRecords()
			if err != nil {
				return err
			}
			var out []srvDomain
			bad := false
			for _, name := range domains {
				d := srvDomain{Domain: name, Records: records}
				if check {
					d.Faults = checkSRV(cmd.Context(), net.DefaultResolver.LookupSRV, d)
					bad = bad || len(d.Faults) > 0
				}
				out = append(out, d)
			}
			if err := ask.print(cmd.OutOrStdout(), out, func(w io.Writer) { printSRV(w, out, check) }); err != nil {
				return err
			}
			if bad {
				return silentError{}
			}
			return nil
		},
	}
	c.Flags().StringVar(&file, "config", defaultConfigFile, "configuration file")
	c.Flags().BoolVar(&check, "check", false, "ask the DNS whether they are there")
	c.Flags().BoolVar(&program, "autoconfig", false, "print the file that sets up Thunderbird and other programs")
	return ask.flags(c)
}

// domainArgs are the domains that were asked for, in lower case and without the last dot.
func domainArgs(args []string) ([]string, error) {
	var domains []string
	for _, a := range args {
		d := strings.ToLower(strings.TrimSuffix(a, "."))
		if _, domain, ok := strings.Cut(d, "@"); ok && fullDomain(domain) {
			return nil, usageError{fmt.Errorf("%q is the address of a BAL; expected a domain: %s", a, domain)}
		}
		if !fullDomain(d) {
			return nil, usageError{fmt.Errorf("%q is no domain; expected a full domain name (letters, digits, hyphens, dots)", a)}
		}
		domains = append(domains, d)
	}
	return domains, nil
}

// srvFront is a front that records lead to.
type srvFront struct {
	service  string
	priority uint16
	hostname string
	key      string   // of listen, for people
	listen   []string // addresses where clients begin in clear
}

// srvFronts are those of the configuration. The front of applications stands on the addresses of that of persons, unless it has
// its own.
func (c *Config) srvFronts() []srvFront {
	fronts := []srvFront{{"imap", srvPersons, c.Hostname, "imap.listen", c.IMAP.Listen}}
	if a := c.IMAP.App; a != nil {
		f := srvFront{"imap", srvApplications, a.Hostname, "imap.listen", c.IMAP.Listen}
		if a.alone() {
			f.key, f.listen = "imap.app.listen", a.Listen
		}
		fronts = append(fronts, f)
	}
	s := c.Submission
	if s == nil {
		return fronts
	}
	fronts = append(fronts, srvFront{"submission", srvPersons, c.Hostname, "submission.listen", s.Listen})
	if a := s.App; a != nil {
		f := srvFront{"submission", srvApplications, a.Hostname, "submission.listen", s.Listen}
		if a.alone() {
			f.key, f.listen = "submission.app.listen", a.Listen
		}
		fronts = append(fronts, f)
	}
	return fronts
}

// srvRecords are the records of every domain of ours.
func (c *Config) srvRecords() ([]srvRecord, error) {
	var records []srvRecord
	for _, f := range c.srvFronts() {
		if len(f.listen) == 0 {
			return nil, fmt.Errorf("%s holds no address; expected one: clients of the trust space begin in clear (STARTTLS)", f.key)
		}
		port, err := portOf(f.listen[0])
		if err != nil {
			return nil, err
		}
		records = append(records, srvRecord{f.service, f.priority, srvWeight, port, lowerHost(f.hostname)})
	}
	return records, nil
}

// lowerHost is a host name as it stands in records.
func lowerHost(name string) string { return strings.ToLower(strings.TrimSuffix(name, ".")) }

// portOf is the port of host:port, whose port may be a name.
func portOf(addr string) (uint16, error) {
	_, text, err := net.SplitHostPort(addr)
	if err != nil {
		return 0, err
	}
	port, err := net.LookupPort("tcp", text)
	return uint16(port), err
}

// ourDomains are the domains that have a BAL which is not destroyed.
func ourDomains(ctx context.Context, ask *asking) ([]string, error) {
	bals, err := ask.client().BALs(ctx)
	if err != nil {
		return nil, err
	}
	var domains []string
	for _, b := range bals {
		if _, domain, ok := strings.Cut(b.Address, "@"); ok && b.Destroyed == nil {
			domains = append(domains, domain)
		}
	}
	slices.Sort(domains)
	return slices.Compact(domains), nil
}

// checkSRV says what the DNS says otherwise. Weights are the operator's choice.
func checkSRV(ctx context.Context, lookup lookupSRV, d srvDomain) (faults []string) {
	ctx, cancel := context.WithTimeout(ctx, srvTimeout)
	defer cancel()
	for _, service := range services {
		var records []srvRecord
		for _, r := range d.Records {
			if r.Service == service {
				records = append(records, r)
			}
		}
		if len(records) == 0 {
			continue // others may offer it
		}
		_, found, err := lookup(ctx, service, "tcp", d.Domain)
		fault := lookupFault(service, d.Domain, err)
		if fault != "" {
			faults = append(faults, fault)
		}
		if fault == "" || len(found) > 0 { // else nothing is known, and nothing is missing
			faults = append(faults, compareSRV(d.Domain, service, records, found)...)
		}
	}
	return faults
}

// lookupFault says what is wrong with an answer as such; "" where there is one, also one without records. A resolver may
// return an error and records: it leaves those out that lead to what is no name.
func lookupFault(service, domain string, err error) string {
	var dns *net.DNSError
	switch isDNS := errors.As(err, &dns); {
	case err == nil, isDNS && dns.IsNotFound:
		return ""
	case isDNS && !dns.IsTimeout && !dns.IsTemporary:
		return fmt.Sprintf("the DNS answers about _%s._tcp.%s. what cannot be used: %s", service, domain, dns.Err)
	}
	return "the DNS does not answer: " + err.Error()
}

func compareSRV(domain, service string, want []srvRecord, found []*net.SRV) (faults []string) {
	key := func(priority, port uint16, target string) string {
		return strconv.Itoa(int(priority)) + " " + strconv.Itoa(int(port)) + " " + strings.ToLower(strings.TrimSuffix(target, "."))
	}
	there := map[string]bool{}
	for _, s := range found {
		there[key(s.Priority, s.Port, s.Target)] = true
	}
	for _, r := range want {
		k := key(r.Priority, r.Port, r.Target)
		if !there[k] {
			faults = append(faults, "missing: "+r.line(domain))
		}
		delete(there, k)
	}
	for _, s := range found {
		if there[key(s.Priority, s.Port, s.Target)] {
			faults = append(faults, "not ours: "+srvRecord{service, s.Priority, s.Weight, s.Port, strings.TrimSuffix(s.Target, ".")}.line(domain))
		}
	}
	return faults
}

func printSRV(w io.Writer, domains []srvDomain, checked bool) {
	for _, d := range domains {
		if !checked {
			for _, r := range d.Records {
				fmt.Fprintln(w, r.line(d.Domain))
			}
			continue
		}
		if len(d.Faults) == 0 {
			fmt.Fprintf(w, "%s: as it should be\n", d.Domain)
		}
		for _, f := range d.Faults {
			fmt.Fprintf(w, "%s: %s\n", d.Domain, f)
		}
	}
}
