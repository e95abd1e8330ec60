package translate

// members are the places of a JSON object's top-level members.
type members struct{}
