#!/bin/sh
# Writes all generated code anew: the wire's Go code (framework/plugin/proto/*.pb.go) and the assembly of
# framework/hash/lanes. With --check it changes nothing, and fails where what is committed is not what would
# be written. Needs Go alone; run it from anywhere.
set -eu
cd "$(dirname "$0")"

# generate DIRECTORY writes the code below a directory that has the repository's folders.
generate() {
	go run ./protogen .. "$1"
	go run ./lanesgen "$1"
}

case "${1-}" in
'')
	generate ..
	;;
--check)
	scratch=$(mktemp -d)
	trap 'rm -rf "$scratch"' EXIT
	mkdir -p "$scratch/framework/plugin/proto" "$scratch/framework/hash/lanes"
	generate "$scratch"
	for file in $(cd "$scratch" && find framework -type f); do
		if ! cmp -s "$scratch/$file" "../$file"; then
			echo "$file is stale: run tools/generate.sh" >&2
			exit 1
		fi
	done
	;;
*)
	echo "usage: $0 [--check]" >&2
	exit 2
	;;
esac
