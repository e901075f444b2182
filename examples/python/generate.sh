#!/bin/sh
# SPDX-FileCopyrightText: The pam-authn authors
# SPDX-License-Identifier: Apache-2.0
#
# Generates authn_pb2.py into $1 (default: this folder). Needs protoc 3.21
# (Debian 12: protobuf-compiler).
set -eu
cd "$(dirname "$0")"
out=${1:-.}
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
protoc --proto_path=../../authn/plugin/wire --python_out="$tmp" authn.proto
{
	sed -n '2,3p' "$0"
	cat "$tmp/authn_pb2.py"
} >"$out/authn_pb2.py"
