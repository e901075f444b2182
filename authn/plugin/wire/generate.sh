#!/bin/sh
# SPDX-FileCopyrightText: The pam-authn authors
# SPDX-License-Identifier: Apache-2.0
#
# Generates the Go code of this folder into $1 (default: this folder). Needs
# protoc (Debian: protobuf-compiler); the Go plugins are pinned in go.mod.
set -eu
cd "$(dirname "$0")"
out=${1:-.}
bin=$(mktemp -d)
trap 'rm -rf "$bin"' EXIT
go build -o "$bin/" google.golang.org/protobuf/cmd/protoc-gen-go google.golang.org/grpc/cmd/protoc-gen-go-grpc
PATH="$bin:$PATH" protoc --go_out="$out" --go_opt=paths=source_relative \
	--go-grpc_out="$out" --go-grpc_opt=paths=source_relative authn.proto
