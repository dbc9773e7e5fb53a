// Package directory answers whether an address stands in the Annuaire Santé, from a local image of it.
//
// Each feed (the LDAP face of the directory, the public extraction of 31 columns) is read as a whole by Run, becomes an
// immutable image and takes the place of the former one in one step; single changes make a delta over it. An LDAP server that
// offers content synchronisation is followed, change by change; the extraction comes by HTTPS or as a file. Decide looks into
// the images of all feeds, compares type and structure, and goes through the policy table; where the table says no, it first
// asks the LDAP server itself, within a short deadline. The images are kept under the state directory and opened again at
// start without the network; the previous one is kept too. docs/directory.md tells the files.
//
// Invariants:
//  1. An address is known if any live feed knows it; it is gone only when each feed that had it lost it.
//  2. "Unknown" is never said by an image older than CannotTellAfter, nor, with no LDAP to ask, older than StaleAfter.
//  3. A failed, half-empty, older or much smaller reading changes nothing: the image in force stays, Status says why, and
//     Accept takes what was refused.
//  4. An image never changes once it is published; looking an address up takes no lock and does not allocate.
//  5. At each step of a write a kill or a power cut leaves an image with its changes and the cookie that belongs to them.
//  6. Decide always answers: it returns within LiveDeadline, and never an error.
//
// It does not publish BALs. In memory it holds address, type and identifiers only, which is what the check needs; names and
// towns, as published, stand on disk.
//
// Security: the LDAP server and the extraction are trusted for what they say, not for how they say it: sizes of packets,
// lines, fields, rows and files are bounded. TLS uses configured authorities only. Asked addresses are professional ones
// (a BAL of ours); they go into LDAP filters escaped. Errors and logs never quote what stands in a row.
//
// Standards: RFC 4511, RFC 4513 and RFC 4515 (LDAP, its authentication, its filters), RFC 2696 (paged results),
// RFC 4533 (content synchronisation), RFC 9110 (HTTP).
package directory
