// Package story holds what mssd demo needs around the real daemon: an invented trust space.
//
// Trust makes a test authority, the certificates and the signed white list; Annuaire is a small LDAP server with
// invented pharmacies; Letter is a patient's message with a prescription. All persons, structures and numbers are
// invented; the patient's number is of the range of test identities.
//
// Nothing here stands between a peer and the daemon: the demo connects to the same fronts as everybody.
//
// It is no test double of the directory or of an authority for the tests of the rooms, and the daemon itself never
// uses it.
//
// Security: it listens on loopback only and its keys live in the demo's folder.
//
// Standards: HL7 CDA R2 and IHE XDM in the form of the CI-SIS (as far as a demonstration needs), PDF 1.4, LDAPv3
// (RFC 4511) with paged results (RFC 2696).
package story

// Names of the invented trust space.
const (
	PatientDomain = "patient.mssante.fr"
	// PatientINS is an invented number of the right form (the control key is right, the person does not exist).
	PatientINS  = "274119912345610"
	PatientName = "Élodie TESTAVRIL"

	// ListSigner is the name of whoever signs the white list.
	ListSigner = "liste-blanche.demo.test"

	PharmacyDomain = "demo-officines.mssante.fr"
	Pharmacy       = "pharmacie.du.pont@" + PharmacyDomain
	PharmacyName   = "PHARMACIE DU PONT"
	PharmacyFINESS = "990009011"

	// Doctor is a BAL of ours that the pharmacy writes to.
	Doctor = "dr.essai@" + PharmacyDomain

	// Unpublished is a BAL of ours that the directory does not know.
	Unpublished = "pharmacie.fermee@" + PharmacyDomain
	// Nobody is an address of our domain that no BAL has.
	Nobody = "pharmacie.inconnue@" + PharmacyDomain

	// IntruderDomain is listed, but bound to another operator than the intruder.
	IntruderDomain = "autre-operateur.mssante.fr"
)

// PatientAddress is the sender's address; never print it whole.
const PatientAddress = PatientINS + "@" + PatientDomain

// Masked is the address for people: the number of a patient never stands in clear.
const Masked = "274…@" + PatientDomain
