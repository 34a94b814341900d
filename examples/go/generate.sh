#!/bin/sh
# Writes gen/: Go code for the contracts. Needs protoc, or Python with grpcio-tools (PYTHON=...); the two plugins are
# built at the versions that go.mod pins. GOOGLEAPIS is a folder with google/rpc/*.proto.
set -eu
cd "$(dirname "$0")"
here=waybill.example/gen
files="waybill/events/v1/events.proto waybill/metrics/v1/metrics.proto waybill/operations/v1/operations.proto
       waybill/options/v1/options.proto waybill/reports/v1/reports.proto"
mkdir -p gen bin
GOBIN="$PWD/bin" go install google.golang.org/protobuf/cmd/protoc-gen-go google.golang.org/grpc/cmd/protoc-gen-go-grpc
if command -v protoc >/dev/null; then set -- protoc; else set -- "${PYTHON:-python3}" -m grpc_tools.protoc; fi
set -- "$@" -I../../proto -I../../proto/third_party ${GOOGLEAPIS:+-I"$GOOGLEAPIS"} \
    --plugin=bin/protoc-gen-go --plugin=bin/protoc-gen-go-grpc \
    --go_out=gen --go_opt=module=$here --go-grpc_out=gen --go-grpc_opt=module=$here
for file in $files; do
    # waybill/reports/v1/reports.proto is the package waybill.example/gen/reports.
    name=$(basename "$file" .proto)
    set -- "$@" "--go_opt=M$file=$here/$name" "--go-grpc_opt=M$file=$here/$name"
done
longrunning=cloud.google.com/go/longrunning/autogen/longrunningpb
set -- "$@" "--go_opt=Mgoogle/longrunning/operations.proto=$longrunning" \
    "--go-grpc_opt=Mgoogle/longrunning/operations.proto=$longrunning"
# shellcheck disable=SC2086 (a list of names)
"$@" $files
