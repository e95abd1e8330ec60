package budget

// Window is the period a budget counts over: hour, day, week, month, or a
// number of days such as 30d. In UTC unless a zone is given.
type Window struct{}
