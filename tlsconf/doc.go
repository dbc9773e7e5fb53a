// Package tlsconf knows certificates: distinguished names, the authorities trusted, the TLS side of each front, and the
// verdict on a peer.
//
// A Front hands its *tls.Config to a listener and only asks the peer for a certificate. After the handshake, full or
// resumed, the session gives its tls.ConnectionState to Judge.Peer and gets a Verdict with a reason that can be said to
// the peer. Whether the name in the certificate may speak for a domain is not decided here but by the white list
// (directory/whitelist), which compares the DN values of this package.
//
// Invariants:
//  1. A verdict is OK only if a chain leads from the leaf to a configured anchor, all dates hold, the usage fits, no key
//     is weak and no configured CRL names a certificate of that chain.
//  2. What is missing on our side gives a temporary verdict, never a refusal for good.
//  3. A reload that fails changes nothing.
//  4. The system's own pool of authorities is never used.
//
// CRLs come from files and from the URLs of the configuration; one OCSP responder can be asked. Addresses in a peer's
// certificate are never followed. Host names are not compared.
//
// Security: the certificates a peer shows are an attacker's input; their number is bounded before any signature is
// checked. Names are compared on decoded values (see DN), never as strings. Files named in the configuration are
// trusted, and their size is bounded.
//
// Standards: RFC 5280 (certificates, CRLs), RFC 4514 and RFC 4518 (names), RFC 8446 and RFC 5246 (TLS).
package tlsconf
