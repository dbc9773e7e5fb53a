package tlsconf

import (
	"crypto/tls"
	"fmt"
	"strings"
)

// DefaultSuites are the suites of TLS 1.2 used when none are set: forward secrecy and authenticated encryption only
// (RFC 9325, Section 4.2). Those of TLS 1.3 cannot be chosen. The trust space has a closed list that could not be read.
func DefaultSuites() []uint16 {
	return []uint16{
		tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
		tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
		tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
	}
}

// ParseSuites turns names of TLS 1.2 cipher suites, as in RFC 5289, into their numbers. Insecure suites are unknown.
func ParseSuites(names []string) ([]uint16, error) {
	var ids []uint16
	for _, name := range names {
		id, ok := suiteNamed(name)
		if !ok {
			return nil, fmt.Errorf("unknown cipher suite %q: expected one of %s", name, strings.Join(suiteNames(), ", "))
		}
		ids = append(ids, id)
	}
	return ids, nil
}

func suiteNamed(name string) (uint16, bool) {
	for _, s := range tls.CipherSuites() {
		if strings.EqualFold(s.Name, name) && s.SupportedVersions[0] <= tls.VersionTLS12 {
			return s.ID, true
		}
	}
	return 0, false
}

func suiteNames() []string {
	var names []string
	for _, id := range DefaultSuites() {
		names = append(names, tls.CipherSuiteName(id))
	}
	return names
}
