package budget

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Window is the period a budget counts over: hour, day, week, month, or a
// number of days such as 30d. In UTC unless a zone is given. The zero value is
// a day in UTC; equal windows compare equal.
type Window struct {
	kind byte // 'd' and 0 are days, 'h', 'w', 'm'
	days int  // for kind 'n': this many days, counted from 1970-01-01
	loc  *time.Location
}

// ParseWindow reads a window as the configuration writes it.
func ParseWindow(s string, loc *time.Location) (Window, error) {
	w := Window{loc: loc}
	if loc == time.UTC {
		w.loc = nil
	}
	switch s {
	case "day", "":
		return w, nil
	case "hour", "week", "month":
		w.kind = s[0]
		return w, nil
	}
	digits, ok := strings.CutSuffix(s, "d")
	n, err := strconv.Atoi(digits)
	if !ok || err != nil || n < 1 || n > 366 {
		return Window{}, fmt.Errorf("window %q: want hour, day, week, month, or a number of days such as 30d", s)
	}
	w.kind, w.days = 'n', n
	return w, nil
}

// At is the window that holds t: a short name for it, and its end.
func (w Window) At(t time.Time) (id string, end time.Time) {
	loc := time.UTC
	if w.loc != nil {
		loc = w.loc
	}
	t = t.In(loc)
	y, m, d := t.Date()
	midnight := func(d int) time.Time { return time.Date(y, m, d, 0, 0, 0, 0, loc) }
	switch w.kind {
	case 'h':
		start := t.Truncate(time.Hour)
		id, end = start.UTC().Format("h2006010215"), start.Add(time.Hour)
	case 'w':
		start := midnight(d - (int(t.Weekday())+6)%7)
		yy, ww := start.ISOWeek()
		id, end = fmt.Sprintf("w%d%02d", yy, ww), start.AddDate(0, 0, 7)
	case 'm':
		id, end = t.Format("m200601"), time.Date(y, m+1, 1, 0, 0, 0, 0, loc)
	case 'n':
		day := int(time.Date(y, m, d, 0, 0, 0, 0, time.UTC).Unix() / 86400)
		first := day - day%w.days
		id = fmt.Sprintf("n%d.%d", w.days, first/w.days)
		end = midnight(d + first + w.days - day)
	default:
		id, end = t.Format("d20060102"), midnight(d+1)
	}
	if w.loc != nil {
		id += "." + w.loc.String()
	}
	return id, end
}

// String is the window as the configuration writes it.
func (w Window) String() string {
	switch w.kind {
	case 'h':
		return "hour"
	case 'w':
		return "week"
	case 'm':
		return "month"
	case 'n':
		return strconv.Itoa(w.days) + "d"
	}
	return "day"
}
