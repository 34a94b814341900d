//go:build tools

package main

// What generate.sh builds, at the versions of go.mod.
import (
	_ "google.golang.org/grpc/cmd/protoc-gen-go-grpc"
	_ "google.golang.org/protobuf/cmd/protoc-gen-go"
)
