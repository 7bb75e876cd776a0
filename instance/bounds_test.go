package instance_test

import (
	"strings"
	"testing"

	"github.com/gatehouse-io/gatehouse/gatehousetest"
	"github.com/gatehouse-io/gatehouse/instance"
)

func TestBoundsOfTheConfiguration(t *testing.T) {
	base := map[string]string{"JWT_SECRET": gatehousetest.JWTSecret, "ENCRYPTION_KEY": gatehousetest.EncryptionKey}
	for setting, want := range map[string]string{
		"UPSTREAM_TOTAL_TIMEOUT=2h": "",
		"STREAM_HEARTBEAT=15s":      "",
		"GATEHOUSE_BOUNDS_OPENAI=first-byte=10m,idle=10m,total=2h,heartbeat=15s,body-mib=50": "",
		"GATEHOUSE_BOUNDS_AZURE_OPENAI=heartbeat=0s":                                         "",
		"GATEHOUSE_BOUNDS_APP=idle=1h":                                                       "",
		"GATEHOUSE_BOUNDS_OPENAI=body-mib=1":                                                 "",
		"UPSTREAM_FIRST_BYTE_TIMEOUT=0s":                                                     "UPSTREAM_FIRST_BYTE_TIMEOUT must be a duration up to 24h",
		"UPSTREAM_IDLE_TIMEOUT=25h":                                                          "UPSTREAM_IDLE_TIMEOUT must be a duration up to 24h",
		"STREAM_HEARTBEAT=1ms":                                                               "STREAM_HEARTBEAT must be 0s or from 1s to 1h",
		"REQUEST_BODY_MIB=0":                                                                 "REQUEST_BODY_MIB must be from 1",
		"BODY_SPOOL_MIB=-1":                                                                  "BODY_SPOOL_MIB must be from 1",
		"GATEHOUSE_DRAIN_DELAY=11m":                                                          "GATEHOUSE_DRAIN_DELAY must be from 0s to 10m",
		"GATEHOUSE_BOUNDS_OPENAI=idle=soon":                                                  "GATEHOUSE_BOUNDS_OPENAI: idle must be a duration",
		"GATEHOUSE_BOUNDS_OPENAI=body-mib=x":                                                 "GATEHOUSE_BOUNDS_OPENAI: body-mib must be from 1",
		"GATEHOUSE_BOUNDS_OPENAI=60s":                                                        "GATEHOUSE_BOUNDS_OPENAI: it must be some of",
		"GATEHOUSE_BOUNDS_NOPE=idle=1m":                                                      "GATEHOUSE_BOUNDS_NOPE names no service",
	} {
		environ := map[string]string{}
		for name, value := range base {
			environ[name] = value
		}
		name, value, _ := strings.Cut(setting, "=")
		environ[name] = value
		config, err := instance.FromEnvironment(environ)
		if err == nil {
			err = config.Check()
		}
		switch {
		case want == "" && err != nil:
			t.Errorf("%s: %v", setting, err)
		case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
			t.Errorf("%s: %v, want %q", setting, err, want)
		case want != "" && strings.Contains(err.Error(), "soon"):
			t.Errorf("%s: the error repeats the value", setting)
		}
	}
}
