#!/bin/sh
# Writes all generated code anew: framework/plugin/proto/*.pb.go. Needs Go alone; run it from anywhere.
set -eu
cd "$(dirname "$0")"
go run ./protogen ..
gofmt -l ../framework/plugin/proto
