module github.com/ckpt-project/ckpt/tools

go 1.26.0

require (
	github.com/bufbuild/protocompile v0.14.1
	github.com/mmcloughlin/avo v0.5.0
	google.golang.org/protobuf v1.36.12
)

require (
	golang.org/x/mod v0.39.0 // indirect
	golang.org/x/sync v0.22.0 // indirect
	golang.org/x/tools v0.49.0 // indirect
	google.golang.org/grpc/cmd/protoc-gen-go-grpc v1.6.2 // indirect
)

tool (
	google.golang.org/grpc/cmd/protoc-gen-go-grpc
	google.golang.org/protobuf/cmd/protoc-gen-go
)
