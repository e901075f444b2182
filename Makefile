# SPDX-FileCopyrightText: The pam-authn authors
# SPDX-License-Identifier: Apache-2.0

# make demo   a real login in a minute, nothing installed
# make test   all tests
# make build  everything into build/

PREFIX ?= /usr
SYSCONFDIR ?= /etc
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
BUILD ?= build
GO ?= go
ifeq ($(origin CC),default)
CC = gcc
endif

LIBEXEC = $(PREFIX)/libexec/authn
MULTIARCH := $(shell $(CC) -print-multiarch 2>/dev/null)
# Where this system's libpam looks for modules.
SECURITYDIR ?= $(firstword $(wildcard /lib/$(MULTIARCH)/security /usr/lib64/security /lib/security) /lib/security)

PROVIDERS = passphrase onelogin qrcode
PATHS = github.com/pam-authn/pam-authn/pamshim/worker/internal/paths
TAGS = osusergo,netgo,grpcnotrace
LDFLAGS = -s -w -X github.com/pam-authn/pam-authn/authn/plugin.Version=$(VERSION)
WORKER_LDFLAGS = $(LDFLAGS) -extldflags=-static -X $(PATHS).Providers=$(LIBEXEC)/providers \
	-X $(PATHS).Config=$(SYSCONFDIR)/authn -X $(PATHS).Worker=$(LIBEXEC)/authn-worker -X $(PATHS).Security=$(SECURITYDIR)
ENROLL_LDFLAGS = -s -w -X main.version=$(VERSION) -X main.installedWorker=$(LIBEXEC)/authn-worker \
	-X main.installedProvider=$(LIBEXEC)/providers/authn-qrcode -X main.defaultConfig=$(SYSCONFDIR)/authn/qrcode.yaml
AUTHNCTL_LDFLAGS = -s -w -X main.version=$(VERSION) -X main.installedWorker=$(LIBEXEC)/authn-worker \
	-X main.installedModule=$(SECURITYDIR)/pam_authn.so

WARNINGS = -Wall -Wextra -Wconversion -Wformat=2 -Wshadow -Wstrict-prototypes -Wmissing-prototypes \
	-Wnull-dereference -Wwrite-strings -Wvla -Werror
HARDENING = -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2 -fstack-protector-strong -fstack-clash-protection \
	-ftrivial-auto-var-init=zero -fzero-call-used-regs=used
ifneq ($(filter x86_64-%,$(MULTIARCH)),)
HARDENING += -fcf-protection
endif
MODULE_CFLAGS = -std=c11 -D_GNU_SOURCE -O2 $(WARNINGS) -fPIC -fvisibility=hidden \
	-DAUTHN_WORKER='"$(LIBEXEC)/authn-worker"'
MODULE_LDFLAGS = -Wl,-z,relro,-z,now,-z,noexecstack,-z,defs -Wl,--no-undefined-version \
	-Wl,--version-script=pamshim/module/pam_authn.map
MODULE_SRC = $(wildcard pamshim/module/*.c) pamshim/frame/frame.c pamshim/frame/duration.c pamshim/safefile/safefile.c
MODULE_DEPS = $(MODULE_SRC) $(wildcard pamshim/*/*.h) pamshim/module/pam_authn.map Makefile

.PHONY: all
all: build

# Go's own cache decides what is stale.
.PHONY: build
build: $(BUILD)/pam_authn.so
	CGO_ENABLED=1 $(GO) build -trimpath -tags $(TAGS) -ldflags '$(WORKER_LDFLAGS)' -o $(BUILD)/authn-worker ./pamshim/worker
	CGO_ENABLED=0 $(GO) build -trimpath -tags $(TAGS) -ldflags '$(LDFLAGS)' -o $(BUILD)/authn-passphrase ./examples/passphrase
	CGO_ENABLED=0 $(GO) build -trimpath -tags $(TAGS) -ldflags '$(LDFLAGS)' -o $(BUILD)/authn-onelogin ./providers/onelogin/cmd/authn-onelogin
	CGO_ENABLED=0 $(GO) build -trimpath -tags $(TAGS) -ldflags '$(LDFLAGS)' -o $(BUILD)/authn-qrcode ./providers/qrcode/cmd/authn-qrcode
	CGO_ENABLED=0 $(GO) build -trimpath -tags $(TAGS) -ldflags '-s -w -X main.version=$(VERSION)' -o $(BUILD)/qrcode-relay ./providers/qrcode/cmd/qrcode-relay
	CGO_ENABLED=1 $(GO) build -trimpath -tags $(TAGS) -ldflags '$(ENROLL_LDFLAGS)' -o $(BUILD)/authn-qrcode-enroll ./providers/qrcode/cmd/authn-qrcode-enroll
	CGO_ENABLED=1 $(GO) build -trimpath -ldflags '$(AUTHNCTL_LDFLAGS)' -o $(BUILD)/authnctl ./authn/cmd/authnctl

$(BUILD)/pam_authn.so: $(MODULE_DEPS)
	@mkdir -p $(BUILD)
	$(CC) $(MODULE_CFLAGS) $(HARDENING) -shared -s -o $@ $(MODULE_SRC) $(MODULE_LDFLAGS) -lpam

# What the build and the tests need. DEBIAN is installed with apt where it is
# missing; sshd is neither started nor enabled by that.
DEBIAN = gcc libc6-dev libpam0g-dev make git openssh-server openssh-client sudo login util-linux at openssl \
	protobuf-compiler python3-grpcio python3-protobuf clang-format shellcheck valgrind whois \
	chromium fonts-dejavu-core fonts-noto-mono nats-server systemd tmux

.PHONY: deps
deps: page
	@sh .ci/deps $(DEBIAN)

# The approver page's scanners and what its tests need come from npm, by lock
# file. Without them everything builds, and the page leaves scanning to the
# phone's camera app.
WEB = providers/qrcode/web
.PHONY: page
page: $(WEB)/static/vendor/jsQR.js
$(WEB)/static/vendor/jsQR.js: $(WEB)/package-lock.json $(WEB)/vendor.mjs
	@sh .ci/deps
	cd $(WEB) && npm ci --ignore-scripts --no-audit --no-fund && npm run --silent vendor
	@touch $@

# A private sshd on loopback, a login by script, nothing left behind.
# DEMO=shell keeps it up for logins by hand.
PROVIDER ?= passphrase
ROOT = $(if $(filter 0,$(shell id -u)),,sudo)

.PHONY: demo
demo: deps build
	CGO_ENABLED=0 $(GO) build -trimpath -o $(BUILD)/tools/demo ./pamshim/demo
	@$(ROOT) $(BUILD)/tools/demo -build $(BUILD) -provider $(PROVIDER) $(if $(filter shell,$(DEMO)),-stay)
	@$(if $(filter shell,$(DEMO)),:,echo "To log in by hand: make demo PROVIDER=$(PROVIDER) DEMO=shell")

# Tests are of three kinds: those that run Go code of ours in their own process,
# with the race detector, and those that run programs, one package or two at a
# time.
GOTEST = AUTHN_BUILD=$(abspath $(BUILD)) $(GO) test
RACED = ./authn/... ./docs/... ./examples/... ./pamshim/frame/... ./pamshim/worker/... \
	./providers/onelogin ./providers/onelogin/internal/... ./providers/onelogin/onelogintest/... \
	./providers/qrcode ./providers/qrcode/internal/... ./providers/qrcode/relay/... ./providers/qrcode/cmd/qrcode-relay/... \
	./providers/qrcode/web ./providers/qrcode/web/icons
HOSTS = ./pamshim/safefile/... ./pamshim/hosttest/... ./pamshim/pamtest/... ./pamshim/libpam/... \
	./pamshim/hostile/... ./pamshim/chaos/... ./pamshim/e2e/... ./pamshim/bench/... ./pamshim/demo/... \
	./providers/onelogin/timing/... ./providers/onelogin/bench/...
# These wait more than they work, for people and telephones.
PATIENT = ./providers/onelogin/e2e/... ./providers/qrcode/cmd/authn-qrcode-enroll/... ./providers/qrcode/web/browsertest/... \
	./providers/qrcode/attack/... ./providers/qrcode/e2e/...

.PHONY: test
test: deps build check $(if $(filter true,$(CI)),lint)
	$(GOTEST) -race -timeout 15m $(RACED)
	$(GOTEST) -p 1 -timeout 15m $(HOSTS)
	$(GOTEST) -p 2 -timeout 15m $(PATIENT)
	$(if $(filter true,$(CI)),sh .ci/fuzz $(FUZZTIME))

# What a reader would stumble over, in seconds.
.PHONY: check
check:
	@files=$$(gofmt -l authn docs examples pamshim providers) && test -z "$$files" || { echo "gofmt: $$files" >&2; exit 1; }
	$(GO) vet ./...
	clang-format --style=file:pamshim/module/.clang-format --dry-run -Werror $(wildcard pamshim/*/*.[ch])
	shellcheck .ci/deps .ci/fuzz .ci/run pamshim/adduser authn/plugin/wire/generate.sh examples/python/generate.sh

# The first run compiles golangci-lint, which takes minutes; CI runs it, too.
GOLANGCI = github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
.PHONY: lint
lint:
	$(GO) run $(GOLANGCI) run ./...

.PHONY: format
format:
	gofmt -w authn docs examples pamshim providers
	clang-format --style=file:pamshim/module/.clang-format -i $(wildcard pamshim/*/*.[ch])

# Every fuzz target for FUZZTIME; "make test" runs their corpus. A number of runs
# and not a time: when a time is over, go test may call its end a failure
# ("context deadline exceeded").
FUZZTIME ?= 50000x
.PHONY: fuzz
fuzz:
	sh .ci/fuzz $(FUZZTIME)

# Longer runs of what "make test" runs in short: fuzzing, 10,000 calls, every
# hostile host and every misbehaving provider many times over.
.PHONY: soak
soak: deps build
	SOAK=1 $(GOTEST) -count=1 -p 1 -timeout 3h ./...
	sh .ci/fuzz 5m

# Prints ratios against peers of the same run. libpam-python and
# python3-requests are measured too where they are installed.
# Takes each check of provider qrcode away in turn, and wants an attack to notice.
.PHONY: mutate
mutate: deps build
	MUTATE=1 $(GOTEST) -count=1 -timeout 60m -v -run 'TestMutants$$' ./providers/qrcode/attack

.PHONY: bench
bench: deps build
	@mkdir -p $(BUILD)/tools/bench
	@cp $(BUILD)/pam_authn.so $(BUILD)/authn-* $(BUILD)/tools/bench/
	@CGO_ENABLED=0 $(GO) build -trimpath -tags $(TAGS) -ldflags '$(LDFLAGS)' -o $(BUILD)/tools/bench/authn-permit ./pamshim/bench/permit
	@CGO_ENABLED=0 $(GO) build -trimpath -ldflags '-s -w' -o $(BUILD)/tools/bench/empty ./pamshim/bench/empty
	@$(CC) -O2 -o $(BUILD)/tools/bench/grow pamshim/libpam/testdata/grow.c -lpam
	@$(GO) build -o $(BUILD)/tools/run-bench ./pamshim/bench
	@$(ROOT) $(BUILD)/tools/run-bench -build $(BUILD)/tools/bench
	@$(GO) build -o $(BUILD)/tools/onelogin-bench ./providers/onelogin/bench
	@$(ROOT) $(BUILD)/tools/onelogin-bench -build $(BUILD)
	@$(GO) test -run '^$$' -bench Approval -benchtime 300x ./providers/qrcode
	@$(GO) run ./providers/qrcode/relay/bench -relay $(BUILD)/qrcode-relay -web $(WEB)
	@BENCH=1 $(GO) test -count=1 -v -run TestDecodersReadTerminals ./providers/qrcode/web/browsertest

DESTDIR ?=
BINDIR = $(DESTDIR)$(PREFIX)/bin
LIB = $(DESTDIR)$(LIBEXEC)

# Builds nothing, so that "sudo make install" leaves nothing of root's in a
# checkout. Providers are 0711: unreadable, hence not dumpable.
.PHONY: install
install:
	@test -x $(BUILD)/pam_authn.so || { echo 'install: error: nothing is built' >&2; echo 'install: hint: run "make build" first, as yourself' >&2; exit 1; }
	install -d -m 755 $(DESTDIR)$(SECURITYDIR) $(LIB) $(LIB)/providers $(BINDIR) $(DESTDIR)$(SYSCONFDIR)/authn
	install -m 644 $(BUILD)/pam_authn.so $(DESTDIR)$(SECURITYDIR)/pam_authn.so
	install -m 755 $(BUILD)/authn-worker $(LIB)/authn-worker
	install -m 755 $(BUILD)/authnctl $(BUILD)/qrcode-relay $(BINDIR)/
	install -m 711 $(BUILD)/authn-qrcode-enroll $(BINDIR)/
	install -d -m 755 $(DESTDIR)$(PREFIX)/lib/systemd/system
	sed 's|/usr/bin/qrcode-relay|$(PREFIX)/bin/qrcode-relay|' providers/qrcode/relay/qrcode-relay.service >$(DESTDIR)$(PREFIX)/lib/systemd/system/qrcode-relay.service
	for p in $(PROVIDERS); do install -m 711 $(BUILD)/authn-$$p $(LIB)/providers/authn-$$p || exit 1; done
	@test -n "$(DESTDIR)" || sh pamshim/adduser authn

# Keeps what is yours: /etc/authn. The user authn goes, if install made it.
.PHONY: uninstall
uninstall:
	@! grep -ls pam_authn.so /etc/pam.d/* 2>/dev/null || { echo 'uninstall: error: the files above still use pam_authn.so, and would lock everybody out' >&2; echo 'uninstall: hint: take its lines out first' >&2; exit 1; }
	rm -f $(DESTDIR)$(SECURITYDIR)/pam_authn.so $(LIB)/authn-worker $(BINDIR)/authnctl $(BINDIR)/authn-qrcode-enroll $(BINDIR)/qrcode-relay \
		$(DESTDIR)$(PREFIX)/lib/systemd/system/qrcode-relay.service
	for p in $(PROVIDERS); do rm -f $(LIB)/providers/authn-$$p; done
	-rmdir $(LIB)/providers $(LIB) $(DESTDIR)$(SYSCONFDIR)/authn 2>/dev/null || :
	@test -n "$(DESTDIR)" || sh pamshim/adduser -r authn

.PHONY: clean
clean:
	rm -rf $(BUILD)
