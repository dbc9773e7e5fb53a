package main

import (
	"encoding/xml"
	"errors"
	"io"
	"slices"

	"mssd/auth"
)

// clientConfig is what Thunderbird and others read to set an account up, version 1.1 of the format of Mozilla. It is served
// at https://autoconfig.DOMAIN/mail/config-v1.1.xml.
type clientConfig struct {
	XMLName  xml.Name `xml:"clientConfig"`
	Version  string   `xml:"version,attr"`
	Provider provider `xml:"emailProvider"`
}

type provider struct {
	ID          string       `xml:"id,attr"`
	Domains     []string     `xml:"domain"`
	DisplayName string       `xml:"displayName"`
	Incoming    []mailServer `xml:"incomingServer"`
	Outgoing    []mailServer `xml:"outgoingServer"`
}

type mailServer struct {
	Type           string `xml:"type,attr"` // "imap", "smtp"
	Hostname       string `xml:"hostname"`
	Port           uint16 `xml:"port"`
	SocketType     string `xml:"socketType"` // "SSL": TLS from the first octet; "STARTTLS"
	Username       string `xml:"username"`
	Authentication string `xml:"authentication"`
}

// mailServers are the addresses of a front, those with TLS from the first octet before the others (RFC 8314, Section 3).
func mailServers(kind, host string, tls, starttls []string) ([]mailServer, error) {
	var out []mailServer
	for _, at := range []struct {
		socket string
		addrs  []string
	}{{"SSL", tls}, {"STARTTLS", starttls}} {
		for _, a := range at.addrs {
			port, err := portOf(a)
			if err != nil {
				return nil, err
			}
			s := mailServer{kind, host, port, at.socket, "%EMAILADDRESS%", "password-cleartext"}
			if !slices.Contains(out, s) {
				out = append(out, s)
			}
		}
	}
	return out, nil
}

// takesPasswords says whether a program that knows no tokens can log in.
func takesPasswords(mechanisms []string) bool {
	return slices.Contains(mechanisms, auth.Plain) || slices.Contains(mechanisms, auth.Login)
}

// autoconfig is for the programs of persons who log in with a password: they cannot get tokens of Pro Santé Connect.
func (c *Config) autoconfig(domains []string) (*clientConfig, error) {
	s := c.Submission
	if s == nil {
		return nil, errors.New("there is no table submission; expected one: programs take no account that cannot send")
	}
	if !takesPasswords(c.mechanisms()) {
		return nil, errors.New("imap.mechanisms holds neither PLAIN nor LOGIN; expected one of them: mail programs log in with passwords")
	}
	if !takesPasswords(c.submissionMechanisms()) {
		return nil, errors.New("submission.mechanisms holds neither PLAIN nor LOGIN; expected one of them: mail programs log in with passwords")
	}
	host := lowerHost(c.Hostname)
	in, err := mailServers("imap", host, c.IMAP.ListenTLS, c.IMAP.Listen)
	if err != nil {
		return nil, err
	}
	out, err := mailServers("smtp", host, s.ListenTLS, s.Listen)
	if err != nil {
		return nil, err
	}
	return &clientConfig{Version: "1.1", Provider: provider{host, domains, host, in, out}}, nil
}

func (c *clientConfig) print(w io.Writer) error {
	b, err := xml.MarshalIndent(c, "", "  ")
	if err != nil {
		return err
	}
	_, err = io.WriteString(w, xml.Header+string(b)+"\n")
	return err
}
