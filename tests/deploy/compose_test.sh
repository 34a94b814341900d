#!/usr/bin/env bash
# The incident pipeline on docker compose: builds the images, brings the stack up, runs the pipeline from outside
# as a client with a token would, looks at its trace in Jaeger and at its mails; then changes notify, deploys it alone
# while clients use it, and brings the stack down, volumes included.
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
export JAEGER_PORT=0 MAIL_PORT=0
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
status='{{.Name}} {{.State.Status}} {{with .State.Health}}{{.Status}}{{else}}{{.State.ExitCode}}{{end}}'
# `setup` and `stores` run to their end.
while unwell=$(docker inspect --format "$status" "${containers[@]}" | grep -v ' running healthy$\| exited 0$'); do
  [ "$SECONDS" -lt "$deadline" ] || fail "not healthy: $unwell"
  sleep 1
done
"${compose[@]}" ps

gateway=$("${compose[@]}" port metrics-gateway 50051)
jaeger=http://$("${compose[@]}" port jaeger 16686)
mailpit=http://$("${compose[@]}" port mailpit 8025)
dashboard=https://$("${compose[@]}" port dashboard-web 8080)

say "Ask the setup for its authority and a token"
"${compose[@]}" run --rm --no-deps -T setup authority >"$results/ca.pem" 2>"$results/setup.log"
(umask 077 && "${compose[@]}" run --rm --no-deps -T setup token ada --role operator >"$results/ada.token" 2>>"$results/setup.log")
access=(--ca-file "$results/ca.pem" --token-file "$results/ada.token")

say "Be refused without one"
if .venv/bin/waybill queues --gateway "$gateway" --ca-file "$results/ca.pem" 2>"$results/refused"; then fail "let in without a token"; fi
grep CREDENTIALS_MISSING "$results/refused" || fail "refused otherwise: $(cat "$results/refused")"

say "Run the incident pipeline from outside, through $gateway"
.venv/bin/waybill demo --gateway "$gateway" "${access[@]}" --state-dir "$results"

say "Look at what it left behind"
.venv/bin/python tests/deploy/incident_in_jaeger.py --gateway "$gateway" "${access[@]}" --jaeger "$jaeger" --mailpit "$mailpit"
.venv/bin/python tests/deploy/dashboard_answers.py "$dashboard" "${access[@]}"

say "Change notify, and deploy it alone while clients use it"
changed=$results/changed
mkdir "$changed"
git ls-files -z | xargs -0 cp --parents --target-directory "$changed"
sed -i 's/^version = .*/version = "99.0.0"/' "$changed/services/notify/pyproject.toml"
# shellcheck disable=SC2086  # several arguments in one variable
docker build ${COMPOSE_BUILD_ARGS:-} --build-arg SERVICE=notify --tag localhost/waybill-notify \
  --file "$changed/deploy/Dockerfile" "$changed" >"$results/build.log" 2>&1 || fail "$(tail -20 "$results/build.log")"
.venv/bin/python tests/deploy/redeploy_under_load.py --gateway "$gateway" "${access[@]}" --mailpit "$mailpit" -- \
  "${compose[@]}" up --detach --no-deps --no-build notify-gateway notify-worker notify-subscriber
.venv/bin/waybill workers --gateway "$gateway" "${access[@]}" --json >"$results/workers.json"
grep -q '"99.0.0"' "$results/workers.json" || fail "no worker of notify is the changed one: $(cat "$results/workers.json")"
printf 'workers now: %s\n' "$(grep -o '"version": *"[^"]*"' "$results/workers.json" | sort | uniq -c | tr -s ' \n' ' ')"

say "The pipeline ran, and notify was replaced under it; the report is in $results"
