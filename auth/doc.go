// Package auth says who logs in, and what each may open.
//
// A front gives a user name and a password to Password and gets a Principal: the person, and the BALs this person may
// open, each with a role. The front asks Check before each operation that needs a right, so that a right withdrawn ends
// at once. Both are answered from the store's memory. Sessions ends those that ask nothing: a front adds each session that
// has logged in, with what hangs it up.
//
// The user name is the address of a BAL where one member of that BAL has a password in force. Where several have, it is
// "member%address": member is the part of the member's id behind its first ":" ("99900000052%pharmacie@…" for
// "rpps:99900000052"), or the whole id. Everything before the last "%" that stands before the "@" of a BAL of ours is
// taken as member; an address of a BAL that itself contains "%" is tried as it is first. Names are compared without
// regard to case.
//
// Invariants:
//  1. A wrong password, an unknown user, a BAL that is closed, suspended or not yet open and a membership not in force
//     give the same error, ErrCredentials, after the same amount of work; none for what was tried from there lately.
//  2. No password is stored, logged, or kept in memory beyond the call: the cache holds an HMAC under a key of this process.
//  3. A cached login is worth nothing once the password's hash, the membership or the BAL changed.
//  4. The memory and processors that hashing takes are bounded (MaxParallel × the cost of a hash, itself bounded), and so
//     is what throttle and cache remember.
//
// Where an issuer is configured (PSC), Token takes an access token of Pro Santé Connect instead: the front gives the
// address of the BAL, the token says who the person is, and the members of the BAL say whether this person may open it.
// A token is verified here (signature, issuer, dates, parties) and then by the issuer's own word (introspection), which is
// remembered for a minute. Where the user name is empty, or the person's own number, the principal has all BALs of this
// person (held): a session may hold several. Begin gives a SASL exchange for a front to carry, on whatever wire.
//
//  5. A token stands in no log, error or file: what is remembered of it is its hash.
//  6. An issuer that cannot be asked is ErrUnavailable, never a refusal; a client waits for it 2 s at the most, and after
//     three failures in a row nobody does. Tokens that were found good lately stay good meanwhile.
//  7. Only failures that are guesses count against an address: a token that the issuer signed is none, however old.
//
// Certificate takes the certificate of the peer's TLS connection: a member whose id is "cert:" and a name. The certificate is
// judged at the login and again every minute of its session.
//
// Security: user name and password are an attacker's input, bounded before any work. The throttle grows with failures per
// user and per address of the network. Who comes from an address that they have logged in from before is counted apart, so that
// nobody keeps them out by guessing, and has half of the turns to hash for themselves (attempt). The same wrong password again
// is answered from memory and counts nothing. The issuer is reached over TLS under the configured authorities, its answers are bounded, no
// redirection is followed: a token would go with it.
//
// Standards: RFC 9106 (argon2id), the PHC string format; RFC 7515, 7517, 7519 and 8725 (tokens), RFC 7662 (introspection),
// RFC 8705 (bound tokens), RFC 4616, RFC 7628 and XOAUTH2 (SASL).
package auth
