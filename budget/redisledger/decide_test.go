package redisledger

import "testing"

func TestWhatFollowsAVerdict(t *testing.T) {
	tests := []struct {
		name    string
		state   asking
		verdict byte
		final   bool
		want    asking
		action  action
	}{
		{"admitted", asking{waits: 2}, 'A', false, asking{waits: 2}, actionAdmit},
		{"the lease has ended", asking{}, 'C', true, asking{}, actionEnd},
		{"another epoch", asking{}, 'E', false, asking{}, actionRefresh},
		{"counts are missing", asking{}, 'M', false, asking{}, actionRestore},
		{"the window has passed", asking{reclaimed: true}, 'W', true, asking{reclaimed: true}, actionAgain},
		{"the first denial calls back what is here", asking{}, 'D', false, asking{reclaimed: true}, actionReclaim},
		{"the next waits for the others", asking{reclaimed: true}, 'D', false, asking{reclaimed: true, waits: 1}, actionAwait},
		{"a denial is final when nobody has anything", asking{}, 'D', true, asking{}, actionDeny},
		{"allotments just heard of are asked about once", asking{}, 'Q', true, asking{reclaimed: true, last: true}, actionReclaim},
		{"and then the denial holds", asking{reclaimed: true, last: true}, 'Q', true, asking{reclaimed: true, last: true}, actionDeny},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got, a := tt.state.next(tt.verdict, tt.final); got != tt.want || a != tt.action {
				t.Errorf("%+v, %q, final %v: got %+v and action %d, want %+v and %d", tt.state, tt.verdict, tt.final, got, a, tt.want, tt.action)
			}
		})
	}
}

func TestADenialIsFinalOnceAllWereWaitedFor(t *testing.T) {
	var s asking
	turns := 0
	for ; turns < maxTurns; turns++ {
		final := s.final(s.reclaimed, false) // others keep something, and do not give it
		var a action
		if s, a = s.next('D', final); a == actionDeny {
			break
		}
	}
	if turns != maxWaits+1 || !s.last {
		t.Errorf("denied after %d turns with %+v, want %d and to have said so to the script", turns, s, maxWaits+1)
	}
}
