package main

import (
	"log/slog"

	"mssd/tlsconf"
)

// frontConfigs are the TLS sides of the fronts, the operator front first, named as their tables. The configuration was checked.
func frontConfigs(c *Config, log *slog.Logger) []tlsconf.FrontConfig {
	fronts := []tlsconf.FrontConfig{
		{Name: "smtp", CertFile: c.SMTP.Cert, KeyFile: c.SMTP.Key, More: morePairs(c.SMTP.Certificates), CipherSuites: suites(c.SMTP.CipherSuites),
			RequestClientCert: true, Log: log},
		{Name: "imap", CertFile: c.IMAP.Cert, KeyFile: c.IMAP.Key, More: morePairs(c.IMAP.Certificates), CipherSuites: suites(c.IMAP.CipherSuites),
			RequestClientCert: c.asksIMAPClients(), Log: log},
	}
	if a := c.IMAP.App; a != nil {
		fronts = append(fronts, tlsconf.FrontConfig{Name: "imap.app", CertFile: a.Cert, KeyFile: a.Key, CipherSuites: suites(c.IMAP.CipherSuites),
			RequestClientCert: true, Log: log})
	}
	return append(fronts, c.submissionTLS(log)...)
}

// submissionTLS are the TLS sides of the submission front: tickets of their own, the certificates of [imap] where it has none.
func (c *Config) submissionTLS(log *slog.Logger) (fronts []tlsconf.FrontConfig) {
	s := c.Submission
	if s == nil {
		return nil
	}
	f := tlsconf.FrontConfig{Name: "submission", CertFile: s.Cert, KeyFile: s.Key, CipherSuites: suites(c.IMAP.CipherSuites), RequestClientCert: c.asksIMAPClients(), Log: log}
	if s.Cert == "" {
		f.CertFile, f.KeyFile, f.More = c.IMAP.Cert, c.IMAP.Key, morePairs(c.IMAP.Certificates)
	}
	fronts = append(fronts, f)
	if a := s.App; a != nil {
		fronts = append(fronts, tlsconf.FrontConfig{Name: "submission.app", CertFile: a.Cert, KeyFile: a.Key, CipherSuites: suites(c.IMAP.CipherSuites), RequestClientCert: true, Log: log})
	}
	return fronts
}

func morePairs(list []CertConfig) (out []tlsconf.CertFiles) {
	for _, p := range list {
		out = append(out, tlsconf.CertFiles{CertFile: p.Cert, KeyFile: p.Key})
	}
	return out
}

// suites are those that were named; nil: the default.
func suites(names []string) []uint16 {
	if len(names) == 0 {
		return nil
	}
	ids, _ := tlsconf.ParseSuites(names)
	return ids
}

// certFiles are all files of a front.
func certFiles(f tlsconf.FrontConfig) []string {
	files := []string{f.CertFile, f.KeyFile}
	for _, p := range f.More {
		files = append(files, p.CertFile, p.KeyFile)
	}
	return files
}

// maxCertificates bounds what each handshake looks through.
const maxCertificates = 100

// tls checks what a front says of its further certificates and its suites.
func (k *checker) tls(front string, more []CertConfig, names []string) {
	for i, p := range more {
		if p.Cert == "" || p.Key == "" {
			k.bad(front+".certificates", "number %d has not both; expected cert and key, PEM files", i+1)
		}
	}
	if len(more) > maxCertificates {
		k.bad(front+".certificates", "%d of them; expected %d at most", len(more), maxCertificates)
	}
	if _, err := tlsconf.ParseSuites(names); err != nil {
		k.bad(front+".cipher_suites", "%v", err)
	}
}
