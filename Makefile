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

PROVIDERS = passphrase
PATHS = github.com/pam-authn/pam-authn/pamshim/worker/internal/paths
TAGS = osusergo,netgo,grpcnotrace
LDFLAGS = -s -w -X github.com/pam-authn/pam-authn/authn/plugin.Version=$(VERSION)
WORKER_LDFLAGS = $(LDFLAGS) -extldflags=-static -X $(PATHS).Providers=$(LIBEXEC)/providers \
	-X $(PATHS).Config=$(SYSCONFDIR)/authn -X $(PATHS).Worker=$(LIBEXEC)/authn-worker

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

$(BUILD)/pam_authn.so: $(MODULE_DEPS)
	@mkdir -p $(BUILD)
	$(CC) $(MODULE_CFLAGS) $(HARDENING) -shared -s -o $@ $(MODULE_SRC) $(MODULE_LDFLAGS) -lpam

.PHONY: clean
clean:
	rm -rf $(BUILD)

# What the build and the tests need. DEBIAN is installed with apt where it is
# missing; sshd is neither started nor enabled by that.
DEBIAN = gcc libc6-dev libpam0g-dev make git openssh-server openssh-client sudo login util-linux \
	protobuf-compiler python3-grpcio python3-protobuf

.PHONY: deps
deps:
	@sh .ci/deps $(DEBIAN)

.PHONY: test
test: deps build
	AUTHN_BUILD=$(abspath $(BUILD)) $(GO) test -timeout 20m ./...
