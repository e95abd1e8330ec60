package redisledger

import (
	"testing"
	"time"

	"github.com/inference-router/inference-router/budget"
)

func TestSpanIsTheWholeWindow(t *testing.T) {
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, window     string
		loc              *time.Location
		now, start, ends string
	}{
		{"an hour", "hour", nil, "2026-11-22T13:59:59.999Z", "2026-11-22T13:00:00Z", "2026-11-22T14:00:00Z"},
		{"a day at its first moment", "day", nil, "2026-11-22T00:00:00Z", "2026-11-22T00:00:00Z", "2026-11-23T00:00:00Z"},
		{"a day at its last moment", "day", nil, "2026-11-22T23:59:59.999Z", "2026-11-22T00:00:00Z", "2026-11-23T00:00:00Z"},
		{"a day of 25 hours", "day", berlin, "2026-10-25T12:00:00Z", "2026-10-24T22:00:00Z", "2026-10-25T23:00:00Z"},
		{"a day of 23 hours", "day", berlin, "2026-03-29T12:00:00Z", "2026-03-28T23:00:00Z", "2026-03-29T22:00:00Z"},
		{"a week over the new year", "week", nil, "2027-01-01T00:00:00Z", "2026-12-28T00:00:00Z", "2027-01-04T00:00:00Z"},
		{"a month", "month", nil, "2028-02-29T12:00:00Z", "2028-02-01T00:00:00Z", "2028-03-01T00:00:00Z"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w, err := budget.ParseWindow(c.window, c.loc)
			if err != nil {
				t.Fatal(err)
			}
			at := func(s string) int64 {
				when, err := time.Parse(time.RFC3339, s)
				if err != nil {
					t.Fatal(err)
				}
				return when.UnixMilli()
			}
			s := newViews(false, "p").spanAt(w, at(c.now))
			if s.start != at(c.start) || s.ends != at(c.ends) {
				t.Errorf("from %v to %v, want %s to %s", time.UnixMilli(s.start).UTC(), time.UnixMilli(s.ends).UTC(), c.start, c.ends)
			}
		})
	}
}

func TestViewsAreBounded(t *testing.T) {
	vs := newViews(false, "p")
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC).UnixMilli()
	vs.get(globalDay(dollar), now)
	var name [3]byte
	for i := range maxViews + maxViews/2 {
		name = [3]byte{byte(i), byte(i >> 8), byte(i >> 16)}
		vs.get(userDay(string(name[:]), dollar), now)
	}
	all := vs.all(now)
	if len(all) > maxViews+maxViews/10 || len(all) < maxViews/2 {
		t.Errorf("%d views are kept, want about %d", len(all), maxViews)
	}
	kept := false
	for _, v := range all {
		kept = kept || v.limit.Scope == budget.ScopeGlobal
	}
	if !kept {
		t.Error("the global budget was forgotten")
	}
}

func TestRepliesOutOfOrder(t *testing.T) {
	vs := newViews(false, "p")
	v := vs.get(userDay("ann", dollar), 1)
	vs.apply(v, 20, 0, counts{gross: 50, corrected: 5, reserved: 7, made: "a"})
	vs.apply(v, 10, 0, counts{gross: 40, reserved: 9, made: "a"})
	if got := v.status(v.limit); got.Spent != 45 || got.Reserved != 7 {
		t.Errorf("after an older reply: %+v", got)
	}
	vs.apply(v, 30, 1, counts{gross: 3, reserved: 7, made: "a"})
	vs.apply(v, 40, 0, counts{gross: 60, reserved: 7, made: "a"})
	if got := v.status(v.limit); got.Spent != 3 {
		t.Errorf("after a reset and a reply from before it: %+v", got)
	}
	if gross, _ := v.floors(0); gross != 0 {
		t.Errorf("a floor of %d for a generation that is over", gross)
	}
	const hour = 3600_000_000
	vs.apply(v, 2*hour, 1, counts{gross: 3, reserved: 7, made: "a"})
	vs.apply(v, hour, 1, counts{gross: 3, reserved: 0, made: "a"})
	if got := v.status(v.limit); got.Reserved != 0 {
		t.Errorf("after the clock was set back: %+v", got)
	}
}

func FuzzAnswer(f *testing.F) {
	for _, reply := range []string{
		"", "E", "E 1:a:2:0", "W 17", "A 1 2", "A 1 2 3 4 5 e 6", "D 1 2 3 4 5 - 6 7 8 9 e 0", "A 99999999999999999999 1", "A 1 -2 -3 x",
	} {
		f.Add(reply)
	}
	f.Fuzz(func(t *testing.T, reply string) {
		a, ok := parseAnswer(reply)
		for range 10 {
			rest := len(a.rest)
			if _, more := a.next(); ok && more && len(a.rest) >= rest {
				t.Fatalf("reply %q: nothing was read of %q", reply, a.rest)
			}
		}
		if e, err := parseEpoch(reply); err == nil && e.text != reply {
			t.Fatalf("epoch %q became %q", reply, e.text)
		}
	})
}
