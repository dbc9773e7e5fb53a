// Package whitelist reads, checks, keeps and makes the signed list of domains (liste blanche): which certificate may
// speak for which mail domain of the trust space.
//
// Load takes the octets of a list. They pass a strict parser (xml.go) that knows only the document form of the list and
// writes its exclusive canonical form as it reads; the signature is verified over that (signature.go); then the rows are
// read from the canonical octets whose digest was verified, never from the file. A Keeper holds the list in force: from
// a file, with a copy of its own that survives restarts, and answers the questions of the fronts. Make signs a list of
// the same form for sandboxes and tests.
//
// Invariants:
//  1. What a List says was covered by a signature of a configured signer, or by one that was accepted before.
//  2. Whatever the parser does not know is refused: no prefixes, attributes, comments, CDATA, processing instructions,
//     document types, entities of one's own, no second Signature, no other transforms or algorithms.
//  3. A Keeper never goes back to an older list, and never to none, unless an operator says so.
//  4. NotBound and NotListed are said only by a list proven to be the newest since the question arose.
//
// A row whose name or DN cannot be read binds nothing, but makes its domain doubtful: CannotTell instead of a refusal.
// The package does not fetch lists over the network; it does not know SMTP.
//
// Security: a list file may come from anywhere; everything before the verification is bounded in size and depth and
// allocates in proportion to the file. Contact data in the list is skipped.
//
// Standards: XML Signature 1.1 (enveloped, RSA-SHA256), Exclusive XML Canonicalization 1.0, XML 1.0.
package whitelist
