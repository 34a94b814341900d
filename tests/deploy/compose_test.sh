#!/usr/bin/env bash
# The incident pipeline on docker compose: builds the images, brings the stack up, runs the pipeline from outside
# as a client would, looks at its trace in Jaeger and at its mails, and brings the stack down, volumes included.
#
#   COMPOSE_BUILD_ARGS  more arguments for `docker build`: --network host where a build has no network of its own
#   COMPOSE_KEEP=1      leaves the stack up, and says how to bring it down
#
# Needs an engine and docker-compose, or the compose plugin. Host ports are chosen by the engine.
set -euo pipefail
cd "$(dirname "$0")/../.."

say() { printf '\n== %s  (%d s)\n' "$1" "$SECONDS"; }
fail() { printf 'compose-test: %s\n' "$1" >&2; exit 1; }

docker info >/dev/null 2>&1 || fail "no container engine answers: start dockerd, or add yourself to its group"
if command -v docker-compose >/dev/null; then compose=(docker-compose)
elif docker compose version >/dev/null 2>&1; then compose=(docker compose)
else fail "neither docker-compose nor the compose plugin is installed"; fi
compose+=(--project-name "waybill-test-$$" --file docker-compose.yml)
export JAEGER_PORT=0
for folder in services/*/; do
  export "$(basename "$folder" | tr '[:lower:]' '[:upper:]')_PORT=0"
done
results=$(mktemp -d)

bring_down() {
  local code=$?
  if [ "$code" -ne 0 ]; then
    "${compose[@]}" ps || true
    "${compose[@]}" logs --no-color >"$results/stack.log" 2>&1 || true
    printf 'compose-test: failed; the logs of the stack are in %s\n' "$results/stack.log" >&2
  fi
  if [ -n "${COMPOSE_KEEP:-}" ]; then
    printf 'compose-test: the stack is left up; %s down --volumes\n' "${compose[*]}" >&2
  else
    say "Bring the stack down"
    "${compose[@]}" down --volumes --timeout 45 2>&1 | grep -v '^Removing\|^Stopping' || true
  fi
  return "$code"
}
trap bring_down EXIT

say "Build the images"
# First by docker itself, which takes what compose does not (--network); then compose finds the layers made.
for folder in services/*/; do
  service=$(basename "$folder")
  # shellcheck disable=SC2086  # several arguments in one variable
  docker build ${COMPOSE_BUILD_ARGS:-} --build-arg "SERVICE=$service" --tag "localhost/waybill-$service" \
    --file deploy/Dockerfile . >"$results/build.log" 2>&1 || fail "$service: $(tail -20 "$results/build.log")"
done
"${compose[@]}" build >"$results/build.log" 2>&1 || fail "$(tail -20 "$results/build.log")"
docker images --format '{{.Repository}}  {{.Size}}' --filter 'reference=localhost/waybill-*'

say "Bring the stack up"
"${compose[@]}" up --detach --no-build >"$results/up.log" 2>&1 || fail "$(tail -20 "$results/up.log")"

say "Wait until every container is healthy"
deadline=$((SECONDS + 180))
mapfile -t containers < <("${compose[@]}" ps --quiet)
status='{{.Name}} {{.State.Status}} {{.State.Health.Status}}'
while unwell=$(docker inspect --format "$status" "${containers[@]}" | grep -v ' running healthy$'); do
  [ "$SECONDS" -lt "$deadline" ] || fail "not healthy: $unwell"
  sleep 1
done
"${compose[@]}" ps

gateway=$("${compose[@]}" port metrics-gateway 50051)
jaeger=$("${compose[@]}" port jaeger 16686)
dashboard=$("${compose[@]}" port dashboard-web 8080)

say "Run the incident pipeline from outside, through $gateway"
.venv/bin/waybill demo --gateway "$gateway" --state-dir "$results"

say "Look at what it left behind"
docker cp "$("${compose[@]}" ps --quiet notify-worker):/var/lib/waybill/notify/Maildir" "$results/Maildir"
.venv/bin/python tests/deploy/incident_in_jaeger.py \
  --gateway "$gateway" --jaeger "http://$jaeger" --maildir "$results/Maildir"
.venv/bin/python -c 'import httpx, sys; print(httpx.get(sys.argv[1]).raise_for_status(), sys.argv[1])' "http://$dashboard/operations"

say "The pipeline ran; the report is in $results"
