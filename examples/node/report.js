// Hand a report to a gateway, wait for it, and follow its events: stock gRPC, with the contracts read as they are.
//
//   npm install && node report.js 127.0.0.1:50051

'use strict';

const { randomUUID } = require('node:crypto');
const fs = require('node:fs');
const path = require('node:path');
const grpc = require('@grpc/grpc-js');
const protoLoader = require('@grpc/proto-loader');

const ROOT = path.join(__dirname, '..', '..');
const PROTO = path.join(ROOT, 'proto');
const FILES = [
  'google/longrunning/operations.proto',
  'google/rpc/error_details.proto',
  'waybill/events/v1/events.proto',
  'waybill/reports/v1/reports.proto',
];
const TYPES = ['waybill.reports.operation.*'];
const FINAL = ['succeeded', 'failed', 'cancelled', 'expired'];

// GOOGLEAPIS: a folder with google/rpc/*.proto, which many packages ship.
const definition = protoLoader.loadSync(FILES, {
  includeDirs: [PROTO, path.join(PROTO, 'third_party'), process.env.GOOGLEAPIS || ''].filter(Boolean),
  keepCase: true,
  longs: Number,
  enums: String,
  defaults: true,
  oneofs: true,
});
const contracts = grpc.loadPackageDefinition(definition);

// With TLS and a token where the environment names an authority: WAYBILL_TLS_CA_FILE, WAYBILL_TOKEN_FILE.
function credentialsFrom({ WAYBILL_TLS_CA_FILE: authority, WAYBILL_TOKEN_FILE: tokenFile }) {
  if (!authority) return grpc.credentials.createInsecure();
  const bearer = new grpc.Metadata();
  bearer.set('authorization', `Bearer ${fs.readFileSync(tokenFile, 'utf8').trim()}`);
  return grpc.credentials.combineChannelCredentials(
    grpc.credentials.createSsl(fs.readFileSync(authority)),
    grpc.credentials.createFromMetadataGenerator((_, done) => done(null, bearer)),
  );
}

async function main(address) {
  const options = {
    // Calls that are UNAVAILABLE, as those of a gateway that is replaced, are sent again by gRPC itself.
    'grpc.service_config': fs.readFileSync(path.join(ROOT, 'examples', 'service_config.json'), 'utf8'),
    'grpc.max_reconnect_backoff_ms': 2000,
  };
  const credentials = credentialsFrom(process.env);
  const reports = new contracts.waybill.reports.v1.ReportsService(address, credentials, options);
  const events = new contracts.waybill.events.v1.EventService(address, credentials, options);
  const operations = new contracts.google.longrunning.Operations(address, credentials, options);

  await refused(reports);

  const stream = events.Subscribe({ service: 'reports', types: TYPES });
  const start = await firstCursor(stream);

  const request = aReport(randomUUID());
  const operation = await unary(reports, 'RenderReport', request);
  const again = await unary(reports, 'RenderReport', request);
  console.log('accepted', operation.name);
  console.log('again', again.name === operation.name ? 'the same' : again.name);

  const report = await waited(operations, operation.name);
  console.log('succeeded', report.filename, report.size_bytes);
  console.log('followed', ...(await followed(stream, operation.name)));
  // Another stream, on any gateway, goes on behind the cursor that one has kept.
  const resumed = events.Subscribe({ service: 'reports', types: TYPES, cursor: start });
  console.log('resumed', ...(await followed(resumed, operation.name)));
  for (const client of [reports, events, operations]) client.close();
}

function aReport(requestId) {
  const section = { text: { title: 'Status', text: 'All is well.' } };
  return { request_id: requestId, template_id: 'standard', title: 'Status', sections: [section] };
}

// A call with a deadline, as a promise.
function unary(client, method, request, seconds = 10) {
  return new Promise((resolve, reject) => {
    const deadline = new Date(Date.now() + seconds * 1000);
    client[method](request, { deadline }, (error, answer) => (error ? reject(error) : resolve(answer)));
  });
}

// Send what no gateway accepts, and read everything that is wrong with it.
async function refused(reports) {
  try {
    await unary(reports, 'RenderReport', { template_id: 'standard' });
  } catch (error) {
    const [packed] = error.metadata.get('grpc-status-details-bin');
    const details = decode('google.rpc.Status', packed).details;
    const info = unpacked(details, 'google.rpc.ErrorInfo');
    const bad = unpacked(details, 'google.rpc.BadRequest');
    const fields = bad.field_violations.map((each) => each.field).sort();
    console.log('refused', grpc.status[error.code], info.reason, ...fields);
  }
}

// The report, once its operation has succeeded. A wait that is cut short begins anew.
async function waited(operations, name) {
  let operation;
  do {
    operation = await unary(operations, 'WaitOperation', { name }, 60);
  } while (!operation.done);
  if (operation.result === 'error') throw new Error(`${name}: ${operation.error.message}`);
  return unpacked([operation.response], 'waybill.reports.v1.RenderReportResponse').report;
}

// The first answer says where the stream begins.
function firstCursor(stream) {
  return new Promise((resolve, reject) => {
    stream.once('data', (answer) => {
      stream.pause();
      resolve(answer.cursor);
    });
    stream.once('error', reject);
  });
}

// What became of the operation, step by step, to its end.
async function followed(stream, name) {
  const steps = [];
  stream.on('error', () => {});
  for await (const answer of stream) {
    if (!answer.event) continue;
    const change = unpacked([answer.event.data], 'waybill.events.v1.OperationChanged');
    if (!change || change.operation !== name) continue;
    steps.push(answer.event.type.split('.').pop());
    if (FINAL.includes(steps.at(-1))) break;
  }
  stream.cancel();
  return steps;
}

// The first of these Any messages that has this type.
function unpacked(packed, type) {
  const found = packed.find((each) => each.type_url.endsWith(`/${type}`));
  return found && decode(type, found.value);
}

function decode(type, bytes) {
  return definition[type].deserialize(bytes);
}

main(process.argv[2] || '127.0.0.1:50051').catch((error) => {
  console.error(error.message);
  process.exitCode = 1;
});
