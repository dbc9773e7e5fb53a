// Package message reads what a message carries: its MIME structure, the answers IMAP gives about it, its
// attachments and its words for searching.
//
// delivery and the store write the octets of a message into a Scanner while they stream past; Finish yields a
// Meta (structure, offsets, ENVELOPE and BODYSTRUCTURE ready for the wire) and a Text (folded words). Both have
// a binary form for the store. Later the fronts find a part by its number (Meta.Part), cut header fields out
// (SelectFields) and search (Text, SearchBlob) with needles folded by the same Fold.
//
// Invariants:
//  1. The answer does not depend on how the octets were cut into Writes.
//  2. Memory is bounded by the constants of this package, whatever the size of the message; time is linear.
//  3. Every part lies inside its parent, every offset inside the message.
//  4. No octet sequence is refused: what cannot be understood is shown as plainly as possible and marked in
//     Meta.Faults.
//
// It does not judge, change or store messages, does not check signatures, and does not look inside attachments.
//
// Security: every octet comes from outside and may be hostile. Nothing is trusted: sizes, depth, number of
// parts, lengths of header blocks and of every kept text are limited. Where a lenient reader and a strict reader of a
// header would see different things (an unquoted file name, two boundaries), the lenient one is followed and a
// fault tells of it. An Address hides its local part when printed or logged; Meta and Text identify persons and
// hide everything when logged.
//
// Standards: RFC 5321 (addresses), RFC 5322, RFC 2045 to 2047, RFC 2183 (disposition), RFC 2231 (parameters),
// RFC 3282 (language), RFC 2557 (location), RFC 1864 (Content-MD5), RFC 3501 and RFC 9051, Section 7.5.2
// (ENVELOPE, BODYSTRUCTURE).
package message
