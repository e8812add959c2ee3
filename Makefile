# make build   the command, as it is shipped: build/cache-tool, and cache-tool-full, which belongs beside it
# make demo    what it does, on a real build, in under two minutes
# make test    vet, all tests, and all again with the race detector
# make test-minio  the tests of object stores on MinIO, too, which takes minutes to build
# make soak    all tests at their full counts, which takes hours
# make bench   cache-tool beside every peer that can be installed; see tests/bench/run.sh
# make bench-sync  push and pull beside peers; see tests/bench/sync.sh
# make bench-clients  build tools behind the gateway; see tests/bench/clients.sh
# make simulate  what pushes and pulls cost at scale, as docs/scale.md quotes it: up to 10 minutes, 2 GB of memory
# make lint    gofmt, vet, staticcheck, govulncheck

GO ?= go
# Plain Go, no paths, no symbols: what starts fast and builds the same anywhere.
BUILD = CGO_ENABLED=0 $(GO) build -trimpath -ldflags '-s -w' -tags urfave_cli_no_docs

STATICCHECK = honnef.co/go/tools/cmd/staticcheck@v0.8.2
GOVULNCHECK = golang.org/x/vuln/cmd/govulncheck@v1.9.0

# WebDAV servers to test against, each started by its test on a port of its own.
SERVERS = apache2:apache2-bin nginx:libnginx-mod-http-dav-ext lighttpd:lighttpd-mod-webdav rclone

# Object stores to test against, which Go builds.
VERSITYGW = github.com/versity/versitygw/cmd/versitygw@v1.8.0
MINIO = github.com/minio/minio@v0.0.0-20260212201848-7aac2a2c5b7c

# Debian's Dune, and what the small project in tests/dune is made of.
OCAML = /usr/lib/ocaml
DUNE = dune:ocaml-dune ocamlopt:ocaml-nox ocamlfind:ocaml-findlib menhir $(OCAML)/menhirLib/META:libmenhir-ocaml-dev \
	$(OCAML)/base/META:libbase-ocaml-dev $(OCAML)/ppx_sexp_conv/META:libppx-sexp-conv-ocaml-dev \
	$(OCAML)/ppx_compare/META:libppx-compare-ocaml-dev

# What docs/scale.md quotes. "make simulate ENTRIES=10000 TEAMS=own/10" is done in seconds; SIMULATE is for other
# flags of tests/simulate/simulate_test.go: SIMULATE='-latency 10ms -csv /tmp/tables.csv'.
ENTRIES = 10000,100000,1000000
TEAMS = own/1,own/10,own/100,own/1000/1,own/1000/1/3m,own/1000/2,one/1,one/10,one/30,one/100/0.5,one/300/0.2/5m
PUSHES = 1,10,100,1000

# What the race detector need not see again: tests that damage files, cut the power and kill processes, one after the
# other, that count what must not grow with numbers, or wait for lines that break, and what Dune does.
ALONE = Dune|BitFlips|Damaged|PowerCut|KilledAnywhere|FailsAnywhere|FullDisk|FlippedAnywhere|MendsEveryBit|IsNeverHalf|$\
	PushGoesOn|PullGoesOn|S3Unreachable|FewRequests|MillionEntries|RemoteMany|HostileTrees|VeryDeep

.PHONY: all build demo test test-minio soak bench bench-sync bench-clients simulate lint clean
all: build

build:
	@mkdir -p build
	$(BUILD) -o build/cache-tool-full .
	$(BUILD) -o build/cache-tool ./internal/front

demo: build
	@tests/need.sh git gcc
	@PATH="$(CURDIR)/build:$$PATH" tests/demo.sh

test:
	@tests/need.sh git gcc ccache zstd lowntfs-3g:ntfs-3g ssh:openssh-client /usr/sbin/sshd:openssh-server $(SERVERS) $(DUNE)
	@tests/need-go.sh $(VERSITYGW)
	$(GO) vet ./...
	$(GO) test -timeout 30m ./tests ./...
	@if command -v gcc >/dev/null; then set -x; CGO_ENABLED=1 $(GO) test -timeout 40m -race -skip '$(ALONE)' ./tests ./...; \
	else echo 'no gcc: the race detector is left out'; fi

test-minio:
	@tests/need-go.sh $(MINIO)
	CACHE_TOOL_TEST_MINIO=1 $(GO) test -timeout 30m -run /minio ./sync/remote/s3 ./tests

soak:
	@tests/need.sh git gcc ccache zstd lowntfs-3g:ntfs-3g ssh:openssh-client /usr/sbin/sshd:openssh-server $(SERVERS) $(DUNE)
	@tests/need-go.sh $(VERSITYGW)
	@tests/soak.sh

bench: build
	@PATH="$(CURDIR)/build:$$PATH" tests/bench/run.sh

bench-sync: build
	@tests/need-go.sh $(VERSITYGW)
	@PATH="$(CURDIR)/build:$$PATH" tests/bench/sync.sh

bench-clients: build
	@PATH="$(CURDIR)/build:$$PATH" tests/bench/clients.sh

simulate:
	@cd tests/simulate && $(GO) test -count=1 -timeout 60m -run Simulate -args -entries $(ENTRIES) -teams $(TEAMS) -pushes $(PUSHES) $(SIMULATE)

lint:
	@out=$$(gofmt -l $$(git ls-files '*.go')); [ -z "$$out" ] || { echo "gofmt would change:"; echo "$$out"; exit 1; }
	$(GO) vet ./...
	@tests/lint.sh $(STATICCHECK) ./...
	@tests/lint.sh $(GOVULNCHECK) ./...

clean:
	rm -rf build
