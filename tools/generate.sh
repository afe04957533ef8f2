#!/bin/sh
# Writes all generated code anew: framework/plugin/proto/*.pb.go. With --check it changes nothing, and fails
# where what is committed is not what would be written. Needs Go alone; run it from anywhere.
set -eu
cd "$(dirname "$0")"

case "${1-}" in
'')
	go run ./protogen .. ..
	;;
--check)
	scratch=$(mktemp -d)
	trap 'rm -rf "$scratch"' EXIT
	mkdir -p "$scratch/framework/plugin/proto"
	go run ./protogen .. "$scratch"
	for file in "$scratch"/framework/plugin/proto/*.pb.go; do
		committed=../framework/plugin/proto/$(basename "$file")
		if ! cmp -s "$file" "$committed"; then
			echo "$committed is stale: run tools/generate.sh" >&2
			exit 1
		fi
	done
	;;
*)
	echo "usage: $0 [--check]" >&2
	exit 2
	;;
esac
