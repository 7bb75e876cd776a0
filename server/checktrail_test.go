package server_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/gatehousetest/instancetest"
)

// A denial that an operator asked about stands in the trail of the organization
// it is about, and the end user's address in nobody else's.
func TestCheckedDenialsStandWhereTheyBelong(t *testing.T) {
	s := instancetest.Serve(t, map[string]string{"CHAT_IP_LIMIT": "2/1h"})
	operator := as(t, s, "acme", "op", access.Owner, access.Operator)
	other := as(t, s, "other", "u1", access.Owner)
	other.get(statusPath) // makes the organization
	const body = `{"subjects":[{"type":"ip","key":"198.51.100.200"},{"type":"org","key":"other"}]}`
	for range 3 {
		if a := operator.do("POST", "/api/rate-limit/check", body); a.Status != http.StatusOK {
			t.Fatalf("%d %s", a.Status, a.Body)
		}
	}
	if events := other.events("action", "limit.exceed"); len(events) != 1 || events[0].Metadata["key"] != "198.51.100.200" {
		t.Errorf("the organization's own trail: %+v", events)
	}
	if a := operator.get(eventsPath + "?limit=500"); strings.Contains(a.Body, "198.51.100.200") {
		t.Error("the operator's organization reads another's end user's address")
	}
}
