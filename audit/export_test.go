package audit

// What the fuzz and golden tests look at.
var (
	DecodeCursor = decodeCursor
	EncodeCursor = encodeCursor
	Decode       = decode
)

const (
	MaxSeries    = maxSeries
	MaxSeriesOf  = maxSeriesOf
	MaxCanonical = maxCanonical
)

// Encode gives the canonical bytes, the salt and the side row of an event.
func Encode(e Event) (canonical, salt, personal []byte, err error) {
	r, err := encode(e.normal())
	return r.canonical, r.salt, r.personal, err
}

// Series gives how many series of denials are told apart just now.
func (l *Log) Series() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.series.open)
}
