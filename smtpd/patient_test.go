package smtpd

import (
	"context"
	"strings"
	"testing"

	"mssd/directory"
)

func patients(action directory.Action) func(*Server) {
	return func(s *Server) { s.PatientDomains, s.PatientFirst = []string{"patient.mssante.test"}, action }
}

// A patient begins a conversation with ORG BALs only; an answer, a report and everybody else may go to any BAL.
func TestPatientFirst(t *testing.T) {
	answer := "In-Reply-To: <1@officine.test>\r\n" + prescription
	report := "MIME-Version: 1.0\r\nContent-Type: multipart/report; report-type=disposition-notification; boundary=b\r\n" +
		"From: <" + patient + ">\r\nTo: <" + doctor + ">\r\n\r\n--b\r\n\r\nlu\r\n--b--\r\n"
	for _, tc := range []struct {
		name, who, from, to, msg string
		first                    bool
	}{
		{"to a pharmacy", "patient", patient, pharmacy, prescription, false},
		{"to a person", "patient", patient, doctor, prescription, true},
		{"to a person, upper case", "patient", patientINS + "@PATIENT.mssante.TEST", doctor, prescription, true},
		{"answer to a person", "patient", patient, doctor, answer, false},
		{"receipt to a person", "patient", patient, doctor, report, false},
		{"operator to a person", "other", "cabinet@autre.test", doctor, prescription, false},
		{"bounce to a person", "patient", "", doctor, prescription, false},
	} {
		for _, action := range []directory.Action{0, directory.AcceptAlert, directory.Refuse550} {
			t.Run(tc.name+"/"+action.String(), func(t *testing.T) {
				w := newWorld(t, patients(action))
				p := w.secure(tc.who)
				if tc.first && action == directory.Refuse550 {
					p.cmd("MAIL FROM:<"+tc.from+">", "250")
					p.cmd("RCPT TO:<"+tc.to+">", "250")
					p.cmd("RCPT TO:<"+pharmacy+">", "250")
					p.cmd("DATA", "354")
					p.send(tc.msg + ".\r\n")
					p.expect("550 5.7.1 a patient cannot begin a conversation")
					p.cmd("NOOP", "250")
					if n := len(w.inbox(tc.to)) + len(w.inbox(pharmacy)); n != 0 {
						t.Errorf("%d messages were stored", n)
					}
					return
				}
				p.deliver(tc.from, tc.to, tc.msg)
				events := w.events.String()
				if got := strings.Contains(events, "a patient writes first"); got != tc.first {
					t.Errorf("noted in the trace: %v, want %v", got, tc.first)
				}
				if got := strings.Contains(w.logs.String(), "a patient writes first"); got != (tc.first && action == directory.AcceptAlert) {
					t.Errorf("alert in the log: %v", got)
				}
				if all := w.logs.String() + events; strings.Contains(all, patientINS) {
					t.Error("a patient's number stands in the log or the trace")
				}
			})
		}
	}
}

// The directory is told who sends, and what it said stands in the trace, of a refusal too.
func TestDecisionInTheTrace(t *testing.T) {
	var asked []directory.Class
	decide := deciderFunc(func(q directory.Query) directory.Decision {
		asked = append(asked, q.Sender)
		dec := directory.Decision{Answer: directory.Known, Action: directory.Accept, Sender: q.Sender, Source: "ldap", Generation: 42, Age: 90e9}
		if q.Address == "absente@officine.test" {
			dec.Answer, dec.Action, dec.Note, dec.Live = directory.Unknown, directory.Refuse550, "asked live", true
		}
		return dec
	})
	w := newWorld(t, func(s *Server) {
		patients(0)(s)
		s.Directory = decide
	})
	p := w.secure("patient")
	p.cmd("MAIL FROM:<"+patient+">", "250")
	p.cmd("RCPT TO:<absente@officine.test>", "550 5.1.1")
	p.cmd("RSET", "250")
	p.deliver(patient, pharmacy, prescription)
	w.secure("other").deliver("cabinet@autre.test", pharmacy, prescription)
	w.secure("self").deliver(doctor, pharmacy, prescription)
	want := []directory.Class{directory.Patient, directory.Patient, directory.Operator, directory.Member}
	if len(asked) != len(want) {
		t.Fatalf("asked %v", asked)
	}
	for i := range want {
		if asked[i] != want[i] {
			t.Errorf("question %d is for %v, want %v", i, asked[i], want[i])
		}
	}
	events := w.events.String()
	for _, v := range []string{"{Key:directory Value:unknown}", "{Key:policy Value:refuse}", "{Key:class Value:patient}", "{Key:class Value:member}",
		"{Key:class Value:operator}", "{Key:source Value:ldap}", "{Key:generation Value:42}", "{Key:age Value:1m30s}", "{Key:live Value:yes}", "(asked live)"} {
		if !strings.Contains(events, v) {
			t.Errorf("the trace lacks %s", v)
		}
	}
	refused := events[strings.Index(events, "absente@officine.test"):]
	refused, _, _ = strings.Cut(refused, "\n")
	for _, v := range []string{"{Key:directory Value:unknown}", "{Key:generation Value:42}", "{Key:class Value:patient}"} {
		if !strings.Contains(refused, v) {
			t.Errorf("the refusal lacks %s: %s", v, refused)
		}
	}
}

type deciderFunc func(directory.Query) directory.Decision

func (f deciderFunc) Decide(_ context.Context, q directory.Query) directory.Decision { return f(q) }

func (deciderFunc) Later(directory.Query, directory.Decision, func(directory.Decision)) {}
