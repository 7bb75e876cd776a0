package server

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"
)

type brokenFlush struct{ *httptest.ResponseRecorder }

var errBroken = errors.New("broken pipe")

func (brokenFlush) FlushError() error { return errBroken }

// Who writes an answer learns that its caller is gone.
func TestFailedFlushIsTold(t *testing.T) {
	w := &statusWriter{ResponseWriter: brokenFlush{httptest.NewRecorder()}}
	if err := http.NewResponseController(w).Flush(); !errors.Is(err, errBroken) {
		t.Errorf("Flush() = %v; want %v", err, errBroken)
	}
}
