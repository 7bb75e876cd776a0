package server

import "testing"

func TestPrefersCSV(t *testing.T) {
	for accept, want := range map[string]bool{
		"text/csv": true, "Text/CSV; charset=utf-8": true, "application/json, text/csv": true, "text/csv;q=1.0": true,
		"text/csv;q=0.5": true, "application/json;q=0.4, text/csv;q=0.5": true, "application/json;q=0, text/csv;q=0.1, */*": true,
		"application/json, text/csv;q=0.5": false, "text/csv;q=0.5, */*": false, "text/csv;q=0.5, application/*;q=0.6, */*;q=0.1": false,
		"text/csv;q=0": false, "text/csv; q=0.0": false, "text/csv;charset=utf-8;q=0": false, "text/csv;q=x": false,
		"application/json": false, "*/*": false, "": false, "text/csvx": false,
	} {
		if got := prefersCSV(accept); got != want {
			t.Errorf("prefersCSV(%q) = %v", accept, got)
		}
	}
}
