package usage

// For fuzzing what a spool file may hold.
var (
	AppendLine = appendLine
	ParseLine  = parseLine
)

// Dimensions lists what usage can be asked by.
func Dimensions() []Dimension { return dimensions() }
