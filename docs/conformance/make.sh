#!/usr/bin/env bash
# Makes the reports in this directory anew, with the program as it is in the working tree. A few minutes.
set -euo pipefail
cd "$(dirname "$0")/../.."

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
go build -o "$scratch/ckpt-host" ./cmd/ckpt-host

prove() { # NAME BACKEND PROFILE FLAGS
	name=$1 backend=$2 profile=$3
	shift 3
	"$scratch/ckpt-host" conformance "$backend" --profile "$profile" "$@" \
		--report "docs/conformance/$name.json" --report "docs/conformance/$name.html"
}
prove memory memory core --bench
prove bbolt bbolt durable --bench
prove leveldb leveldb durable --bench
prove bbolt-crash bbolt crash
prove leveldb-crash leveldb crash
