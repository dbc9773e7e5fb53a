# The commands of this project. `make test` is the one that must always pass.

GO            ?= go
STATICCHECK   := honnef.co/go/tools/cmd/staticcheck@v0.8.2
FUZZTIME      ?= 5m
BENCHTIME     ?= 2s

# Programs that the tests drive, and the Debian packages that bring them.
TEST_PROGRAMS := slapd slapadd ldapsearch mbsync offlineimap mutt s-nail curl swaks openssl xz script systemd-analyze cc strace thunderbird gsasl
# Node comes with npm in some distributions and apart in others, and Java from many hands: their packages are asked for only where the programs are missing.
NODE_PROGRAMS := node npm
NODE_PACKAGES := nodejs npm
TEST_PACKAGES := slapd ldap-utils isync offlineimap3 mutt s-nail curl swaks libnet-ssleay-perl openssl xz-utils dovecot-imapd bsdutils procps systemd gcc libc6-dev strace thunderbird gsasl libsasl2-modules

JAVA_PROGRAMS := java javac
JAVA_PACKAGES := default-jdk-headless

.PHONY: build test tools vet staticcheck unit fuzz crash bench scale bench-target demo clean

build:
	CGO_ENABLED=0 $(GO) build -trimpath -o bin/mssd ./cmd/mssd

# Everything, on a fresh Debian machine with Go, git, make and apt.
test: tools vet staticcheck unit

tools:
	@sh .ci/tools "$(TEST_PROGRAMS)" "$(TEST_PACKAGES)"
	@sh .ci/tools "$(NODE_PROGRAMS)" "" "$(NODE_PACKAGES)"
	@sh .ci/tools "$(JAVA_PROGRAMS)" "libmail-java" "$(JAVA_PACKAGES)"

vet:
	@test -z "$$(gofmt -l .)" || { echo "not gofmt-ed:"; gofmt -l .; exit 1; }
	$(GO) vet ./...

staticcheck:
	$(GO) run $(STATICCHECK) ./...

# slapd and friends live in /usr/sbin, which an ordinary PATH may lack.
# The race detector needs a C compiler (cgo); the daemon itself does not.
# Power cuts are tried without it: it makes them ten times as long and has nothing to find in them.
unit:
	PATH="$$PATH:/usr/sbin:/sbin" CGO_ENABLED=1 $(GO) test -race -shuffle=on -timeout 15m -skip TestPowerCut ./...
	$(GO) test -timeout 10m -run TestPowerCut ./store ./cmd/mssd

# Each fuzz target of the tree for FUZZTIME, one after the other.
fuzz:
	@sh .ci/fuzz "$(FUZZTIME)"

# The long form: kill -9 in mid-delivery against the real binary, many times; then power cuts, every state that is made,
# with the table of docs/durability.md.
crash:
	MSSD_CRASH_ROUNDS=200 $(GO) test -count=1 -timeout 60m -run TestKill ./cmd/mssd ./store
	MSSD_CRASH_ROUNDS=200 $(GO) test -count=1 -timeout 60m -v -run "TestPowerCut|TestFaultsEverywhere" ./store ./cmd/mssd

bench:
	PATH="$$PATH:/usr/sbin:/sbin" $(GO) test -run '^$$' -bench . -benchmem -benchtime $(BENCHTIME) ./...

# The curves of docs/scale.md: up to 20,000 BALs of 500 messages, and one BAL of 1,000,000. 8 GB of disk; SCALE_DIR is
# where the stores are made, and stay.
scale:
	@test -n "$(SCALE_DIR)" || { echo "usage: make scale SCALE_DIR=<a folder with 10 GB free>"; exit 2; }
	MSSD_SCALE_DIR="$(SCALE_DIR)" MSSD_SCALE="bals=100,2000,20000 messages=1000,10000,100000,1000000" \
		$(GO) test -run '^$$' -bench BenchmarkScale -benchtime 1x -timeout 2h ./store

# A daemon with 100 BALs for an outside load harness: D/target.json, D/hooks/start, D/hooks/kill9.
bench-target: build
	@test -n "$(D)" || { echo "usage: make bench-target DIR=<an empty folder>"; exit 2; }
	bin/mssd bench-target "$(D)"
	"$(D)/hooks/start"
bench-target: D = $(DIR)

demo:
	$(GO) run ./cmd/mssd demo

clean:
	rm -rf bin
