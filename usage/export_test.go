package usage

// For fuzzing what a spool file may hold.
var (
	AppendLine = appendLine
	ParseLine  = parseLine
)
