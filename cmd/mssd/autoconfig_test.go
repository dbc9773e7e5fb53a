package main

import (
	"bytes"
	"encoding/xml"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The file as a program reads it: servers with TLS from the first octet come first, each address of a front once.
func TestAutoconfig(t *testing.T) {
	c := defaultConfig()
	c.Hostname = "MSS.exemple.test"
	c.IMAP.Listen, c.IMAP.ListenTLS = []string{"192.0.2.1:143", "[2001:db8::1]:143"}, []string{":993"}
	c.Submission = &SubmissionConfig{Listen: []string{":587"}, ListenTLS: []string{":465"}}
	f, err := c.autoconfig([]string{"officine.test", "cabinet.test"})
	must(t, err)
	var b bytes.Buffer
	must(t, f.print(&b))
	const want = `<?xml version="1.0" encoding="UTF-8"?>
<clientConfig version="1.1">
  <emailProvider id="mss.exemple.test">
    <domain>officine.test</domain>
    <domain>cabinet.test</domain>
    <displayName>mss.exemple.test</displayName>
    <incomingServer type="imap">
      <hostname>mss.exemple.test</hostname>
      <port>993</port>
      <socketType>SSL</socketType>
      <username>%EMAILADDRESS%</username>
      <authentication>password-cleartext</authentication>
    </incomingServer>
    <incomingServer type="imap">
      <hostname>mss.exemple.test</hostname>
      <port>143</port>
      <socketType>STARTTLS</socketType>
      <username>%EMAILADDRESS%</username>
      <authentication>password-cleartext</authentication>
    </incomingServer>
    <outgoingServer type="smtp">
      <hostname>mss.exemple.test</hostname>
      <port>465</port>
      <socketType>SSL</socketType>
      <username>%EMAILADDRESS%</username>
      <authentication>password-cleartext</authentication>
    </outgoingServer>
    <outgoingServer type="smtp">
      <hostname>mss.exemple.test</hostname>
      <port>587</port>
      <socketType>STARTTLS</socketType>
      <username>%EMAILADDRESS%</username>
      <authentication>password-cleartext</authentication>
    </outgoingServer>
  </emailProvider>
</clientConfig>
`
	if d := cmp.Diff(want, b.String()); d != "" {
		t.Error(d)
	}
	var again clientConfig
	must(t, xml.Unmarshal(b.Bytes(), &again))
	if d := cmp.Diff(f.Provider, again.Provider); d != "" {
		t.Error(d)
	}
}

// No file for programs that could not use it.
func TestNoAutoconfig(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*Config)
		want   string
	}{
		"no submission":      {func(c *Config) { c.Submission = nil }, "no table submission"},
		"tokens alone":       {func(c *Config) { c.IMAP.Mechanisms = []string{"XOAUTH2"} }, "imap.mechanisms holds neither"},
		"sending by token":   {func(c *Config) { c.Submission.Mechanisms = []string{"XOAUTH2"} }, "submission.mechanisms holds neither"},
		"a port of no name":  {func(c *Config) { c.IMAP.Listen = []string{":nowhere"} }, "nowhere"},
		"and of submission":  {func(c *Config) { c.Submission.ListenTLS = []string{":nowhere"} }, "nowhere"},
		"old way to log in":  {func(c *Config) { c.Submission.Mechanisms = []string{"LOGIN"} }, ""},
		"tokens beside them": {func(c *Config) { c.IMAP.Mechanisms = []string{"XOAUTH2", "PLAIN"} }, ""},
	} {
		cfg := defaultConfig()
		cfg.Hostname, cfg.IMAP.Listen, cfg.Submission = "mss.exemple.test", []string{":143"}, &SubmissionConfig{Listen: []string{":587"}}
		c.change(cfg)
		_, err := cfg.autoconfig([]string{"officine.test"})
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}
