#!/usr/bin/env bash
# Makes the reports in this directory anew, with the program as it is in the working tree. A few minutes.
set -euo pipefail
cd "$(dirname "$0")/../.."

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
go build -o "$scratch/ckpt-host" ./cmd/ckpt-host

prove() { # BACKEND PROFILE
	"$scratch/ckpt-host" conformance "$1" --profile "$2" --bench \
		--report "docs/conformance/$1.json" --report "docs/conformance/$1.html"
}
prove memory core
prove bbolt durable
prove leveldb durable
