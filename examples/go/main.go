// Hand a report to a gateway, wait for it, and follow its events: stock gRPC and the contracts, nothing else.
//
//	./generate.sh && go run . 127.0.0.1:50051
package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"log"
	"os"
	"sort"
	"strings"
	"time"

	"cloud.google.com/go/longrunning/autogen/longrunningpb"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"waybill.example/gen/events"
	"waybill.example/gen/reports"
)

const serviceConfig = "../service_config.json"

var (
	types = []string{"waybill.reports.operation.*"}
	final = map[string]bool{"succeeded": true, "failed": true, "cancelled": true, "expired": true}
)

func main() {
	address := "127.0.0.1:50051"
	if len(os.Args) > 1 {
		address = os.Args[1]
	}
	if err := run(context.Background(), address); err != nil {
		log.Fatal(err)
	}
}

// bearer shows a token with every call; gRPC sends it over TLS alone.
type bearer string

func (token bearer) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"authorization": "Bearer " + string(token)}, nil
}

func (bearer) RequireTransportSecurity() bool { return true }

// accessFrom has TLS and a token where an authority is named.
func accessFrom(authority, tokenFile string) ([]grpc.DialOption, error) {
	if authority == "" {
		return []grpc.DialOption{grpc.WithTransportCredentials(insecure.NewCredentials())}, nil
	}
	tls, err := credentials.NewClientTLSFromFile(authority, "")
	if err != nil {
		return nil, err
	}
	token, err := os.ReadFile(tokenFile)
	if err != nil {
		return nil, err
	}
	shown := bearer(strings.TrimSpace(string(token)))
	return []grpc.DialOption{grpc.WithTransportCredentials(tls), grpc.WithPerRPCCredentials(shown)}, nil
}

func run(ctx context.Context, address string) error {
	// Calls that are UNAVAILABLE, as those of a gateway that is replaced, are sent again by gRPC itself.
	config, err := os.ReadFile(serviceConfig)
	if err != nil {
		return err
	}
	access, err := accessFrom(os.Getenv("WAYBILL_TLS_CA_FILE"), os.Getenv("WAYBILL_TOKEN_FILE"))
	if err != nil {
		return err
	}
	connection, err := grpc.NewClient(address, append(access, grpc.WithDefaultServiceConfig(string(config)))...)
	if err != nil {
		return err
	}
	defer connection.Close()
	client := reports.NewReportsServiceClient(connection)
	follower := events.NewEventServiceClient(connection)

	refused(ctx, client)

	stream, err := follower.Subscribe(ctx, &events.SubscribeRequest{Service: "reports", Types: types})
	if err != nil {
		return err
	}
	first, err := stream.Recv() // The first answer says where the stream begins.
	if err != nil {
		return err
	}

	request := aReport(rand.Text())
	operation, err := render(ctx, client, request)
	if err != nil {
		return err
	}
	again, err := render(ctx, client, request)
	if err != nil {
		return err
	}
	fmt.Println("accepted", operation.Name)
	if again.Name == operation.Name {
		fmt.Println("again the same")
	}

	report, err := waited(ctx, longrunningpb.NewOperationsClient(connection), operation.Name)
	if err != nil {
		return err
	}
	fmt.Println("succeeded", report.Filename, report.SizeBytes)

	steps, err := followed(stream, operation.Name)
	if err != nil {
		return err
	}
	fmt.Println("followed", strings.Join(steps, " "))
	// Another stream, on any gateway, goes on behind the cursor that one has kept.
	resumed, err := follower.Subscribe(ctx,
		&events.SubscribeRequest{Service: "reports", Types: types, Cursor: first.Cursor})
	if err != nil {
		return err
	}
	if steps, err = followed(resumed, operation.Name); err != nil {
		return err
	}
	fmt.Println("resumed", strings.Join(steps, " "))
	return nil
}

func aReport(requestID string) *reports.RenderReportRequest {
	text := &reports.TextSection{Title: "Status", Text: "All is well."}
	return &reports.RenderReportRequest{
		RequestId:  requestID,
		TemplateId: "standard",
		Title:      "Status",
		Sections:   []*reports.Section{{Kind: &reports.Section_Text{Text: text}}},
	}
}

func render(ctx context.Context, client reports.ReportsServiceClient,
	request *reports.RenderReportRequest) (*longrunningpb.Operation, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	return client.RenderReport(ctx, request)
}

// refused sends what no gateway accepts, and reads everything that is wrong with it.
func refused(ctx context.Context, client reports.ReportsServiceClient) {
	_, err := render(ctx, client, &reports.RenderReportRequest{TemplateId: "standard"})
	said, reason, fields := status.Convert(err), "", []string{}
	for _, detail := range said.Details() {
		switch detail := detail.(type) {
		case *errdetails.ErrorInfo:
			reason = detail.Reason
		case *errdetails.BadRequest:
			for _, each := range detail.FieldViolations {
				fields = append(fields, each.Field)
			}
		}
	}
	sort.Strings(fields)
	fmt.Println("refused", said.Code(), reason, strings.Join(fields, " "))
}

// waited gives the report, once its operation has succeeded. A wait that is cut short begins anew.
func waited(ctx context.Context, operations longrunningpb.OperationsClient, name string) (*reports.Report, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	for {
		operation, err := operations.WaitOperation(ctx, &longrunningpb.WaitOperationRequest{Name: name})
		if err != nil {
			return nil, err
		}
		if !operation.Done {
			continue
		}
		if failure := operation.GetError(); failure != nil {
			return nil, fmt.Errorf("%s: %s", name, failure.Message)
		}
		response := &reports.RenderReportResponse{}
		if err := operation.GetResponse().UnmarshalTo(response); err != nil {
			return nil, err
		}
		return response.Report, nil
	}
}

// followed says what became of the operation, step by step, to its end.
func followed(stream grpc.ServerStreamingClient[events.SubscribeResponse], name string) ([]string, error) {
	steps := []string{}
	for {
		answer, err := stream.Recv()
		if err != nil {
			return steps, err
		}
		change := &events.OperationChanged{}
		if answer.Event == nil || answer.Event.Data.UnmarshalTo(change) != nil || change.Operation != name {
			continue
		}
		kind := answer.Event.Type
		steps = append(steps, kind[strings.LastIndex(kind, ".")+1:])
		if final[steps[len(steps)-1]] {
			return steps, nil
		}
	}
}
