package smtpd

import (
	"slices"

	"mssd/delivery"
	"mssd/directory"
	"mssd/message"
	"mssd/store"
)

// patientDomains are those of the patient platform.
var patientDomains = []string{"patient.mssante.fr"}

func (srv *Server) patients() []string {
	if srv.PatientDomains == nil {
		return patientDomains
	}
	return srv.PatientDomains
}

// class is who sends, as far as the policy on recipients is concerned. The white list has bound the domain to the peer's
// certificate before.
func (srv *Server) class(from message.Address) directory.Class {
	switch d := from.Lower().Domain(); {
	case d == "":
		return directory.Operator
	case slices.Contains(srv.patients(), d):
		return directory.Patient
	case srv.Store.HasDomain(d):
		return directory.Member
	}
	return directory.Operator
}

// patientFirst deals with a patient who begins a conversation: that is for ORG BALs only. To keep to it is the business of
// the patient platform, which knows who wrote to whom; here only the header can be asked whether a message is an answer.
func (s *session) patientFirst(in *delivery.Incoming, begins bool) error {
	action := s.srv.PatientFirst
	if action == 0 {
		action = directory.AcceptNote
	}
	if !begins || action == directory.Accept || s.srv.class(in.ReversePath) != directory.Patient {
		return nil
	}
	in.Recipients = slices.Clone(in.Recipients) // the session may share them
	for i := range in.Recipients {
		r := &in.Recipients[i]
		if r.BAL.Kind == store.ORG || r.Decision.Answer == 0 { // postmaster is everybody's
			continue
		}
		if action == directory.Refuse550 {
			return errPatientFirst
		}
		r.Decision.Action = max(r.Decision.Action, action) // accept, note, alert: the louder one
		if r.Decision.Note != "" {
			r.Decision.Note += "; "
		}
		r.Decision.Note += "a patient writes first"
		if action == directory.AcceptAlert {
			s.log.Warn("a patient writes first to a BAL that is not ORG", "bal", string(r.BAL.Address))
		}
	}
	return nil
}
