package masterkey_test

import (
	"testing"

	"github.com/gatehouse-io/gatehouse/gatehousetest"
)

func TestMain(m *testing.M) { gatehousetest.Main(m) }
