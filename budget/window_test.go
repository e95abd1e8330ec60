package budget

import (
	"strings"
	"testing"
	"time"
	_ "time/tzdata" // the zones' rules must not depend on the machine
)

func mustWindow(t testing.TB, s, zone string) Window {
	t.Helper()
	loc, err := time.LoadLocation(zone)
	if err != nil {
		t.Fatal(err)
	}
	w, err := ParseWindow(s, loc)
	if err != nil {
		t.Fatalf("ParseWindow(%q, %s) = %v", s, zone, err)
	}
	return w
}

func TestWindowAt(t *testing.T) {
	const berlin, newYork = "Europe/Berlin", "America/New_York"
	for _, tt := range []struct {
		name, window, zone string
		at, id, end        string
	}{
		{"a day", "day", "UTC", "2026-11-22T12:13:14Z", "d20261122", "2026-11-23T00:00:00Z"},
		{"the first second of a day", "day", "UTC", "2026-11-22T00:00:00Z", "d20261122", "2026-11-23T00:00:00Z"},
		{"the last second of a day", "day", "UTC", "2026-11-22T23:59:59.999Z", "d20261122", "2026-11-23T00:00:00Z"},
		{"another zone's clock does not matter", "day", "UTC", "2026-11-23T00:30:00+02:00", "d20261122", "2026-11-23T00:00:00Z"},
		{"the last day of a leap February", "day", "UTC", "2028-02-29T10:00:00Z", "d20280229", "2028-03-01T00:00:00Z"},
		{"before 1970", "day", "UTC", "1969-12-31T23:00:00Z", "d19691231", "1970-01-01T00:00:00Z"},
		{"an hour", "hour", "UTC", "2026-11-22T12:13:14Z", "h202611221200", "2026-11-22T13:00:00Z"},
		{"an hour of a zone half an hour off", "hour", "Asia/Kolkata", "2026-11-22T12:13:14Z", "h202611221130@Asia/Kolkata", "2026-11-22T12:30:00Z"},
		{"a month of 30 days", "month", "UTC", "2026-11-30T23:59:59Z", "m202611", "2026-12-01T00:00:00Z"},
		{"a month at the end of a year", "month", "UTC", "2026-12-31T23:59:59Z", "m202612", "2027-01-01T00:00:00Z"},
		{"February of a leap year", "month", "UTC", "2028-02-10T00:00:00Z", "m202802", "2028-03-01T00:00:00Z"},
		{"February of a common year", "month", "UTC", "2100-02-10T00:00:00Z", "m210002", "2100-03-01T00:00:00Z"},
		{"a week on its Monday", "week", "UTC", "2026-11-16T00:00:00Z", "w2026W47", "2026-11-23T00:00:00Z"},
		{"a week on its Sunday", "week", "UTC", "2026-11-22T23:59:59Z", "w2026W47", "2026-11-23T00:00:00Z"},
		{"a week over new year belongs to the old year", "week", "UTC", "2027-01-01T10:00:00Z", "w2026W53", "2027-01-04T00:00:00Z"},
		{"a week over new year belongs to the new year", "week", "UTC", "2024-12-31T10:00:00Z", "w2025W01", "2025-01-06T00:00:00Z"},
		{"a block of 30 days", "30d", "UTC", "1970-01-30T23:59:59Z", "30d19700101", "1970-01-31T00:00:00Z"},
		{"the next block of 30 days", "30d", "UTC", "1970-01-31T00:00:00Z", "30d19700131", "1970-03-02T00:00:00Z"},
		{"a block before 1970", "30d", "UTC", "1969-12-31T23:59:59Z", "30d19691202", "1970-01-01T00:00:00Z"},
		{"a block of seven days begins on a Thursday", "7d", "UTC", "2026-11-22T12:00:00Z", "7d20261119", "2026-11-26T00:00:00Z"},
		{"midnight in Berlin", "day", berlin, "2026-11-22T23:00:00Z", "d20261123@Europe/Berlin", "2026-11-24T00:00:00+01:00"},
		{"Berlin's day of 23 hours", "day", berlin, "2026-03-28T23:00:00Z", "d20260329@Europe/Berlin", "2026-03-30T00:00:00+02:00"},
		{"Berlin's day of 25 hours", "day", berlin, "2026-10-25T22:30:00Z", "d20261025@Europe/Berlin", "2026-10-26T00:00:00+01:00"},
		{"the first 2 o'clock of that day", "hour", berlin, "2026-10-25T00:30:00Z", "h202610250000@Europe/Berlin", "2026-10-25T01:00:00Z"},
		{"the second 2 o'clock of that day", "hour", berlin, "2026-10-25T01:30:00Z", "h202610250100@Europe/Berlin", "2026-10-25T02:00:00Z"},
		{"New York's day of 23 hours", "day", newYork, "2026-03-08T05:00:00Z", "d20260308@America/New_York", "2026-03-09T00:00:00-04:00"},
		{"New York's day of 25 hours", "day", newYork, "2026-11-02T04:59:59Z", "d20261101@America/New_York", "2026-11-02T00:00:00-05:00"},
		{"a week with a change of clocks", "week", newYork, "2026-11-01T20:00:00Z", "w2026W44@America/New_York", "2026-11-02T00:00:00-05:00"},
		{"a month that ends in another offset", "month", berlin, "2026-03-10T00:00:00Z", "m202603@Europe/Berlin", "2026-04-01T00:00:00+02:00"},
		{"a block over a change of clocks", "30d", berlin, "2026-03-20T00:00:00Z", "30d20260308@Europe/Berlin", "2026-04-07T00:00:00+02:00"},
		{"a day without midnight", "day", "Africa/Cairo", "2026-04-23T20:00:00Z", "d20260423@Africa/Cairo", "2026-04-23T22:00:00Z"},
		{"the day after the missing midnight", "day", "Africa/Cairo", "2026-04-23T22:00:00Z", "d20260424@Africa/Cairo", "2026-04-25T00:00:00+03:00"},
		{"a day whose midnight comes twice", "day", "America/Havana", "2026-11-01T03:59:59Z", "d20261031@America/Havana", "2026-11-01T04:00:00Z"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			at, err := time.Parse(time.RFC3339, tt.at)
			if err != nil {
				t.Fatal(err)
			}
			want, err := time.Parse(time.RFC3339, tt.end)
			if err != nil {
				t.Fatal(err)
			}
			w := mustWindow(t, tt.window, tt.zone)
			id, end := w.At(at)
			if id != tt.id || !end.Equal(want) {
				t.Errorf("At(%s) = %s, %s, want %s, %s", tt.at, id, end, tt.id, want)
			}
		})
	}
}

// A window is an interval: its id holds from its first second to its last and
// not at its end. Walked over three years in zones whose clocks are odd.
func TestWindowsFollowOneAnotherWithoutGaps(t *testing.T) {
	zones := []string{"UTC", "Europe/Berlin", "America/New_York", "America/Havana", "Africa/Cairo", "Asia/Beirut",
		"Australia/Lord_Howe", "America/Nuuk", "Asia/Kathmandu", "Pacific/Kiritimati", "Pacific/Pago_Pago", "Africa/Casablanca", "Antarctica/Troll"}
	from := time.Date(2025, 12, 1, 0, 0, 0, 0, time.UTC)
	until := from.AddDate(3, 0, 0)
	ids := map[string]string{} // id → the window it belongs to
	for _, zone := range zones {
		for _, name := range []string{"hour", "day", "week", "month", "30d", "2d"} {
			w := mustWindow(t, name, zone)
			windows := 0
			for at := from; at.Before(until); windows++ {
				id, end := w.At(at)
				if other, ok := ids[id]; ok && other != w.String() {
					t.Fatalf("%s and %s share the id %s", other, w, id)
				}
				ids[id] = w.String()
				if !end.After(at) {
					t.Fatalf("%s: window of %s ends at %s, before it", w, at, end)
				}
				for _, inside := range []time.Time{at.Add(end.Sub(at) / 2), end.Add(-time.Second)} {
					if got := w.get().interval(inside); got.id != id || got.end != end.Unix() {
						t.Fatalf("%s: At(%s) = %s until %s, want %s until %s", w, inside, got.id, got.ends, id, end)
					}
				}
				if next, _ := w.At(end); next == id {
					t.Fatalf("%s: id %s still holds at the window's end %s", w, id, end)
				}
				if windows > 0 {
					if s := w.get().interval(at); s.start != at.Unix() {
						t.Fatalf("%s: window %s starts at %d, want %d where the one before ended", w, id, s.start, at.Unix())
					}
				}
				at = end
			}
			if windows < 36 {
				t.Errorf("%s: %d windows in three years, want at least 36", w, windows)
			}
		}
	}
}

func TestWindowIsComparable(t *testing.T) {
	berlin := mustWindow(t, "day", "Europe/Berlin")
	again := mustWindow(t, "day", "Europe/Berlin")
	if berlin != again {
		t.Errorf("two days of Europe/Berlin are unequal, want equal")
	}
	var zero Window
	for _, s := range []string{"day", "1d"} {
		if w := mustWindow(t, s, "UTC"); w != zero {
			t.Errorf("%s in UTC is not the zero value", s)
		}
	}
	if w, err := ParseWindow("day", nil); w != zero || err != nil {
		t.Errorf("ParseWindow(day, nil) = %v, %v, want the zero value", w, err)
	}
	different := []Window{zero, berlin, mustWindow(t, "hour", "UTC"), mustWindow(t, "week", "UTC"), mustWindow(t, "month", "UTC"),
		mustWindow(t, "7d", "UTC"), mustWindow(t, "30d", "UTC"), mustWindow(t, "7d", "Europe/Berlin"), mustWindow(t, "day", "Europe/Vienna"), mustWindow(t, "day", "Etc/UTC")}
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	for i, a := range different {
		for _, b := range different[:i] {
			idA, _ := a.At(now)
			idB, _ := b.At(now)
			if a == b || idA == idB {
				t.Errorf("%s and %s are equal (%t) or share an id (%s, %s)", a, b, a == b, idA, idB)
			}
		}
	}
}

func TestParseWindowRefuses(t *testing.T) {
	for _, s := range []string{"", "d", "0d", "030d", "-1d", "3661d", "1.5d", "day ", "Day", "daily", "30 d", "1h", "year", "99999999999999999999d"} {
		if w, err := ParseWindow(s, nil); err == nil || !strings.Contains(err.Error(), "want hour, day") {
			t.Errorf("ParseWindow(%q) = %v, %v, want an error that names the choices", s, w, err)
		}
	}
	for name, loc := range map[string]*time.Location{
		"the local zone":                   time.Local,
		"a fixed zone":                     time.FixedZone("UTC+2", 7200),
		"a fixed zone without a name":      time.FixedZone("", 7200),
		"a fixed zone with a key's braces": time.FixedZone("{a}", 7200),
	} {
		if w, err := ParseWindow("day", loc); err == nil || !strings.Contains(err.Error(), "time zone") {
			t.Errorf("ParseWindow(day, %s) = %v, %v, want an error about the zone", name, w, err)
		}
	}
}

func TestWindowString(t *testing.T) {
	for _, s := range []string{"hour", "day", "week", "month", "30d"} {
		if got := mustWindow(t, s, "UTC").String(); got != s {
			t.Errorf("String() = %q, want %q", got, s)
		}
		if got, want := mustWindow(t, s, "Europe/Berlin").String(), s+" Europe/Berlin"; got != want {
			t.Errorf("String() = %q, want %q", got, want)
		}
	}
}

func BenchmarkWindowAt(b *testing.B) {
	now := time.Now()
	for _, zone := range []string{"UTC", "Europe/Berlin"} {
		w := mustWindow(b, "day", zone)
		b.Run(zone, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				w.At(now)
			}
		})
		b.Run(zone+" uncached", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				w.get().interval(now)
			}
		})
	}
}
