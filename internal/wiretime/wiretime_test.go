package wiretime_test

import (
	"testing"
	"time"

	"github.com/gatehouse-io/gatehouse/internal/wiretime"
)

func TestText(t *testing.T) {
	at := time.Date(2026, 11, 23, 9, 41, 0, 120_999_999, time.FixedZone("", 3600))
	if got := wiretime.Text(at); got != "2026-11-23T08:41:00.120Z" {
		t.Error(got)
	}
}
