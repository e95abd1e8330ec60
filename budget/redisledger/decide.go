package redisledger

// maxWaits is how often a denial is asked about again while the other replicas
// look whether they can give something back: a little longer than a heartbeat.
const maxWaits = 6

// maxTurns bounds the replies that one request for money looks at.
const maxTurns = 20

// asking is how far a request for money has come against denials.
type asking struct {
	waits     int  // for what other replicas may give back
	reclaimed bool // this replica's own allotments were called back
	last      bool // the script has been told that nothing else is coming
}

// final says whether a denial holds: this replica has nothing to give back, and
// no other has, or all were waited for.
func (s *asking) final(nothingHere, nothingElsewhere bool) bool {
	final := nothingHere && (s.waits >= maxWaits || nothingElsewhere)
	s.last = final && (s.last || s.waits >= maxWaits)
	return final
}

// action is what a lease does about a verdict.
type action int

const (
	actionAgain   action = iota // ask again: the clock was corrected, and with it the window
	actionAdmit                 // the money is held
	actionEnd                   // the lease was ended by another
	actionDeny                  // there is no money
	actionReclaim               // call this replica's allotments back, then ask again
	actionAwait                 // wait for the other replicas' as well
	actionRefresh               // read the epoch
	actionRestore               // bring back what Redis has lost
)

// next is what follows a script's verdict. It is pure: the same state and
// verdict give the same action.
func (s asking) next(verdict byte, final bool) (asking, action) {
	switch verdict {
	case 'A':
		return s, actionAdmit
	case 'C':
		return s, actionEnd
	case 'E':
		return s, actionRefresh
	case 'M':
		return s, actionRestore
	case 'D', 'Q':
		return s.denied(verdict, final)
	}
	return s, actionAgain
}

// denied is next for a denial; Q is one that allotments elsewhere may undo.
func (s asking) denied(verdict byte, final bool) (asking, action) {
	a := actionReclaim
	switch {
	case final && (verdict == 'D' || s.last):
		return s, actionDeny
	case final: // allotments that were not known before
		s.last = true
	case s.reclaimed:
		s.waits++
		a = actionAwait
	}
	s.reclaimed = true
	return s, a
}
