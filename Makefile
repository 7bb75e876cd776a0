# Gatehouse: `make run` shows it, `make test` proves it.

GO     ?= go
BIN    := bin/gatehouse
LINT   := .tools/golangci-lint
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LDFLAGS := -s -w -X github.com/gatehouse-io/gatehouse/instance.Version=$(VERSION)

# The race detector looks at our code; the SQLite engine and the stretching of keys, which have no goroutine and are most of
# the work, take a quarter to half the time without it. pgconn is here since it stretches too (for SCRAM): the linker keeps
# one copy of a generic function for all, so either copy may be the one that runs. For the same reason only packages that have no
# sync.Map and no generic type of sync/atomic: a copy of those without the detector makes it blind to what every other package
# synchronizes by it, and it reports races that are none. So modernc.org/sqlite itself is looked at.
QUIET := modernc.org/sqlite/lib modernc.org/libc/... modernc.org/memory github.com/jackc/pgx/v5/pgconn \
	github.com/gatehouse-io/gatehouse/seal/internal/stretch $(addprefix crypto/,pbkdf2 internal/fips140/pbkdf2 internal/fips140/hmac internal/fips140/sha256)
RACE := -race $(foreach p,$(QUIET),-gcflags='$(p)=-race=false')

# Begun first, so that none of them is left for the end with a processor idle. Three at once: many tests wait for a clock.
LONGEST := ./server ./vault ./masterkey ./ratelimit ./ledger ./store

# Tested without the detector, with which they take minutes: hardly a goroutine of their own.
ALONE := backup|catalog|cmd/gatehouse|ratelimit/replay|policy/compare

.PHONY: run build test check bench soak lint clean

run: build ## dev mode on 127.0.0.1:8080, everything embedded
	./$(BIN) dev

build:
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o $(BIN) ./cmd/gatehouse

test: ## sets up what it needs, then every test, under the race detector
	./tools/setup-tests.sh
	$(GO) run ./gatehousetest/withpostgres $(GO) test $(RACE) -p 3 -timeout 20m $(LONGEST) $$($(GO) list ./... | grep -vE '/($(ALONE))$$')
	$(GO) run ./gatehousetest/withpostgres $(GO) test -timeout 20m $$($(GO) list ./... | grep -E '/($(ALONE))$$')
	$(GO) test -run 'TestBytesOfAKey|TestExportInFlatMemory' ./ratelimit ./audit # of memory, which the detector makes another: it skips them
	cd sdktest && $(GO) test -timeout 10m ./...
	cd bench && $(GO) test .

check: lint ## what must pass before a commit
	@test -z "$$(gofmt -l . | tee /dev/stderr)" || { echo "gofmt the files above"; exit 1; }
	for module in . sdktest bench; do (cd $$module && $(GO) mod tidy -diff) || exit 1; done
	$(GO) vet ./...
	cd sdktest && $(GO) vet ./...
	cd bench && $(GO) vet ./...
	$(GO) test -count=1 -run 'TestArrows|TestOnlyTheEnds|TestEveryRoom' .

lint: $(LINT)
	$(LINT) run ./...

$(LINT): tools/go.mod tools/go.sum
	cd tools && $(GO) build -o ../$(LINT) github.com/golangci/golangci-lint/v2/cmd/golangci-lint

bench: ## every benchmark prints its ratio
	$(GO) test -run '^$$' -bench . -benchtime 1s ./seal ./ratelimit ./access ./auth ./gateway ./store ./usage/tokens
	$(GO) run ./gatehousetest/withpostgres $(GO) test -run '^$$' -bench . -benchtime 15x -timeout 30m ./vault
	$(GO) test -run '^$$' -bench . -benchtime 3x -timeout 15m ./masterkey
	$(GO) run ./gatehousetest/withpostgres $(GO) test -run '^$$' -bench Verify -benchtime 3x -timeout 15m ./ledger
	$(GO) run ./gatehousetest/withpostgres $(GO) test -run '^$$' -bench SealingLag -benchtime 1x -timeout 15m ./ledger
	$(GO) run ./gatehousetest/withpostgres $(GO) test -run '^$$' -bench . -benchtime 15x -timeout 30m ./audit
	cd bench && $(GO) test -run Accuracy -v .
	cd bench && $(GO) test -run '^$$' -bench . -benchtime 15x -timeout 15m .

soak: ## long campaigns, by hand
	GATEHOUSE_SOAK_LEDGER=1m GATEHOUSE_SOAK_LEDGER_KILLS=100 $(GO) run ./gatehousetest/withpostgres $(GO) test -run 'FalseAlarm|Killed' -timeout 30m -v ./ledger
	$(GO) test $(RACE) -count 20 -timeout 60m ./ratelimit ./audit ./gateway
	GATEHOUSE_SOAK_STREAMS=100000 $(GO) test -count=1 -run NoStreamIsTruncated -v -timeout 60m ./server
	GATEHOUSE_SOAK_KILLS=500 $(GO) test $(RACE) -run Killed -timeout 60m ./masterkey

clean:
	rm -rf bin .tools
