package budget

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Window is the period a budget counts over: hour, day, week, month, or a
// number of days such as 30d. In UTC unless a zone is given. Windows are
// comparable: two are equal when they have the same kind and zone. The zero
// value is a day in UTC.
//
// There is no job that resets anything: the id of the present window is part
// of a counter's key, so a new window starts with a new counter.
type Window struct {
	period *period // one per kind and zone, see intern; nil is the day in UTC
}

// period is a kind of window in a zone, and remembers its present window.
type period struct {
	kind kind
	days int64          // for everyNDays
	zone *time.Location // nil is UTC
	last atomic.Pointer[interval]
}

// interval is one window of a period.
type interval struct {
	start, end int64 // Unix seconds, end excluded
	ends       time.Time
	id         string
}

// kind is a unit of calendar time. As the first letter of an id it keeps the
// ids of different kinds apart.
type kind byte

const (
	hourly     kind = 'h'
	daily      kind = 'd'
	weekly     kind = 'w'
	monthly    kind = 'm'
	everyNDays kind = 'n' // its ids begin with the number of days instead
)

const (
	secondsPerHour = 3600
	secondsPerDay  = 24 * secondsPerHour
	maxDays        = 3660 // ten years
)

// ParseWindow reads hour, day, week, month, or a number of days such as 30d,
// and 1d, which is day. loc is the zone whose hours and midnights count; nil
// is UTC. It must be a named zone that every replica understands alike: not
// time.Local, not time.FixedZone.
//
// Weeks are ISO weeks: they begin on Monday. Nd windows are blocks of N days of
// the zone's calendar, counted from 1 January 1970, so that all replicas agree
// on them without a starting date: they are fixed, not sliding.
func ParseWindow(s string, loc *time.Location) (Window, error) {
	zone, err := namedZone(loc)
	if err != nil {
		return Window{}, err
	}
	switch s {
	case "hour":
		return intern(hourly, 0, zone), nil
	case "day", "1d":
		return intern(daily, 0, zone), nil
	case "week":
		return intern(weekly, 0, zone), nil
	case "month":
		return intern(monthly, 0, zone), nil
	}
	days, ok := strings.CutSuffix(s, "d")
	if !ok || !isDigits(days) || days[0] == '0' || digits(days) > maxDays {
		return Window{}, fmt.Errorf("window %q: want hour, day, week, month, or a number of days from 1d to %dd", s, maxDays)
	}
	return intern(everyNDays, digits(days), zone), nil
}

// namedZone checks that loc means the same everywhere. nil stands for UTC.
func namedZone(loc *time.Location) (*time.Location, error) {
	if loc == nil || loc == time.UTC || loc.String() == "UTC" {
		return nil, nil
	}
	name := loc.String()
	if loc == time.Local || name == "Local" || name == "" {
		return nil, errors.New("time zone: give its name, such as Europe/Berlin: the local one differs from machine to machine")
	}
	for _, c := range []byte(name) {
		if !isZoneByte(c) {
			return nil, fmt.Errorf("time zone %q: not a name of the tz database", name)
		}
	}
	zone, err := time.LoadLocation(name)
	if err != nil {
		return nil, fmt.Errorf("time zone %q: not in the tz database", name)
	}
	return zone, nil
}

// isZoneByte reports whether c may stand in a zone's name, and so in a key.
func isZoneByte(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("/_+-", c) >= 0
}

// periods holds the one period of each kind and zone, by periodKey. Their
// number is bounded by the configuration, not by traffic.
var periods sync.Map

type periodKey struct {
	kind kind
	days int64
	zone string
}

var utcDay = &period{kind: daily}

func intern(k kind, days int64, zone *time.Location) Window {
	if k == daily && zone == nil {
		return Window{} // so that it equals the zero value
	}
	key := periodKey{kind: k, days: days}
	if zone != nil {
		key.zone = zone.String()
	}
	p, _ := periods.LoadOrStore(key, &period{kind: k, days: days, zone: zone})
	return Window{p.(*period)}
}

func (w Window) get() *period {
	if w.period == nil {
		return utcDay
	}
	return w.period
}

// String is what ParseWindow reads, with the zone behind it unless it is UTC:
// "day", "30d Europe/Berlin".
func (w Window) String() string {
	p := w.get()
	var name string
	switch p.kind {
	case hourly:
		name = "hour"
	case daily:
		name = "day"
	case weekly:
		name = "week"
	case monthly:
		name = "month"
	case everyNDays:
		name = strconv.FormatInt(p.days, 10) + "d"
	}
	if p.zone != nil {
		name += " " + p.zone.String()
	}
	return name
}

// At returns the window that t falls into: an id for its counters' keys, and
// the instant at which it ends, which is the first of the next window. An id
// is of letters, digits and /_+-@ only. Different windows never share one: it
// begins with the kind and ends with the zone when that is not UTC, as in
// d20261122, w2026W47, m202611, 30d20261107, d20261122@Europe/Berlin. Hours
// are named by their first minute in UTC, h202611221200, because an hour of a
// zone's clock may come twice.
func (w Window) At(t time.Time) (id string, end time.Time) {
	p := w.get()
	now := t.Unix()
	if s := p.last.Load(); s != nil && s.start <= now && now < s.end {
		return s.id, s.ends
	}
	s := p.interval(t)
	p.last.Store(s)
	return s.id, s.ends
}

// interval computes the window around t.
func (p *period) interval(t time.Time) *interval {
	zone := p.zone
	if zone == nil {
		zone = time.UTC
	}
	t = t.In(zone)
	var s interval
	year, month, day := t.Date()
	today := dayNumber(year, month, day)
	first, next := today, today+1 // days since 1970-01-01, next excluded
	switch p.kind {
	case hourly:
		s = hourAround(t)
	case daily:
		s.id = fmt.Sprintf("d%04d%02d%02d", year, month, day)
	case weekly:
		y, w := t.ISOWeek()
		s.id = fmt.Sprintf("w%04dW%02d", y, w)
		first = today - int64(t.Weekday()+6)%7
		next = first + 7
	case monthly:
		s.id = fmt.Sprintf("m%04d%02d", year, month)
		first = dayNumber(year, month, 1)
		next = dayNumber(year, month+1, 1)
	case everyNDays:
		first = today - floorMod(today, p.days)
		next = first + p.days
		y, m, d := time.Unix(first*secondsPerDay, 0).UTC().Date()
		s.id = fmt.Sprintf("%dd%04d%02d%02d", p.days, y, m, d)
	}
	if p.kind != hourly {
		s.start, s.end = midnight(first, zone), midnight(next, zone)
	}
	if p.zone != nil {
		s.id += "@" + p.zone.String()
	}
	s.ends = time.Unix(s.end, 0).In(zone)
	return &s
}

// hourAround is the hour of the zone's clock that t falls into, cut short where
// the clock is changed in its midst.
func hourAround(t time.Time) interval {
	_, offset := t.Zone()
	start := t.Unix() - floorMod(t.Unix()+int64(offset), secondsPerHour)
	end := start + secondsPerHour
	changed, changes := t.ZoneBounds()
	if !changed.IsZero() {
		start = max(start, changed.Unix())
	}
	if !changes.IsZero() {
		end = min(end, changes.Unix())
	}
	return interval{start: start, end: end, id: "h" + time.Unix(start, 0).UTC().Format("200601021504")}
}

// midnight is the first second of a day, given in days since 1970-01-01, in a
// zone. That is not always 00:00: where the clock skips midnight it is the
// first instant after the gap, and where midnight comes twice it is the
// earlier one. time.Date promises neither.
func midnight(day int64, zone *time.Location) int64 {
	wall := day * secondsPerDay // what the clock shows, as if it were UTC
	if zone == time.UTC {
		return wall
	}
	// No zone is further than a day from UTC, so this instant is before
	// midnight; from here on the first offset that fits is the one.
	at := time.Unix(wall-secondsPerDay, 0).In(zone)
	for {
		_, offset := at.Zone()
		_, change := at.ZoneBounds()
		candidate := wall - int64(offset)
		if change.IsZero() || candidate < change.Unix() {
			return max(candidate, at.Unix())
		}
		at = change
	}
}

// dayNumber counts the days of the calendar since 1970-01-01. month may be 13.
func dayNumber(year int, month time.Month, day int) int64 {
	return time.Date(year, month, day, 0, 0, 0, 0, time.UTC).Unix() / secondsPerDay
}

func floorMod(a, b int64) int64 {
	return ((a % b) + b) % b
}

// Daily says that the window is one day, in whatever zone.
func (w Window) Daily() bool { return w.get().kind == daily }
