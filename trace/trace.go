// Package trace names what happens to a message and says it, one event per station, from the verdict on a
// peer to the FETCH of a person.
//
// The fronts and delivery make Events and hand them to the store, which numbers them (Seq) and keeps them;
// the operator reads them back as lines. IDs come from one Source per store: an ID names a transaction, the
// message it carried and the file that holds it.
//
// Invariants:
//  1. The IDs of one Source only grow, also when the clock steps back.
//  2. ParseEvent(AppendBinary(e)) is e, to the nanosecond.
//  3. The keys of attributes are a closed list; an event with another key is not encoded.
//
// It does not store, chain, seal or sign anything.
//
// Security: an event never holds content, a subject, a file name, a header value, a password, a token or the
// address of a patient; a patient stands as a pseudonym (KeySender). The package cannot check this: whoever
// makes an event answers for it. Encoded events may come from a damaged file: parsing is bounded and answers
// every fault with an error. Values are printed quoted, so that none can forge a second line or field.
package trace
