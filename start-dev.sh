#!/usr/bin/env bash
# Brings the whole of evalx up on this machine and judges the samples through it.
set -euo pipefail
# shellcheck source=scripts/setup.sh
source "$(dirname "${BASH_SOURCE[0]}")/scripts/setup.sh"

# Kafka is healthy after 3-5 s and a worker after 2-4 s on two cores; 120 s covers a machine that is busy building.
HEALTH_WAIT_S=120
# A worker may lose a race with Kafka once or twice; one that ends five times will not come up.
RESTARTS_GIVE_UP=5
GRAFANA=${EVALX_GRAFANA_IMAGE:-grafana/grafana-oss:latest}
# Grafana's image is some 150 MB.
PULL_S=300

usage() {
    cat <<'TEXT'
Usage: ./start-dev.sh [--monitoring | --status | --stop | --help]

Installs what is missing, builds the images, starts Kafka, Redis, a worker and the gateway, creates the topics, judges the
samples in examples/ through Kafka in each language, prints the verdicts, and leaves the stack running. Run it again at any
time: what is up to date is skipped.

  --monitoring  with Prometheus, and Grafana if its image can be had (EVALX_GRAFANA_IMAGE)
  --status      what runs, and whether it is healthy
  --stop        stops the stack and keeps its data; a Docker daemon goes on running, whoever started it

Example: EVALX_WORKERS=3 ./start-dev.sh
Settings are in .env (see .env.example); EVALX_WORKERS is the number of workers. Logs are in .run/logs/.
TEXT
}

# health SERVICE: one word a container. Its check is made here and now: Docker makes it every 15 s, since each costs some
# 80 ms of CPU, and a start is over sooner.
health() {
    local id test
    for id in $(compose ps -q "$1" 2>/dev/null); do
        mapfile -t test < <(docker inspect --format '{{join .Config.Healthcheck.Test "\n"}}' "$id" 2>/dev/null)
        if [ "$(docker inspect --format '{{.State.Running}}' "$id" 2>/dev/null)" != true ]; then
            echo stopped
        elif docker exec "$id" "${test[@]:1}" >/dev/null 2>&1; then
            echo healthy
        else
            echo "not ready"
        fi
    done
}

all_healthy() { [ -n "$1" ] && ! grep -qv '^healthy$' <<<"$1"; }

# restarts SERVICE: the most restarts of one of its containers.
restarts() {
    # shellcheck disable=SC2046  # one id a word
    docker inspect --format '{{.RestartCount}}' $(compose ps -q "$1") 2>/dev/null | sort -n | tail -n 1
}

# wait_healthy SERVICE...: until every container of each is healthy.
wait_healthy() {
    local service states deadline=$((SECONDS + HEALTH_WAIT_S))
    for service; do
        while states=$(health "$service") && ! all_healthy "$states"; do
            if [ "$SECONDS" -ge "$deadline" ] || [ "$(restarts "$service")" -ge "$RESTARTS_GIVE_UP" ]; then
                compose logs --no-color --tail 8 "$service"
                say "$service is not healthy (${states//$'\n'/, }); more: docker logs $(compose ps -q "$service" | head -n 1 | cut -c 1-12)"
                return 1
            fi
            sleep 0.3
        done
    done
    say "$* healthy"
}

start_services() { compose up -d --no-build kafka redis && wait_healthy kafka redis; }

# After the topics: neither runs without them.
start_judging() {
    # What they depend on is there, which Docker itself notices only at its next check.
    compose up -d --no-build --no-deps --scale "worker=${EVALX_WORKERS:-1}" worker gateway && wait_healthy worker gateway
}

# Prometheus is built here; Grafana comes from a registry, and is left out where that cannot be reached.
start_monitoring() {
    compose --profile monitoring up -d --no-build prometheus kafka-disk && wait_healthy prometheus || return 1
    if docker image inspect "$GRAFANA" >/dev/null 2>&1 || timeout "$PULL_S" docker pull -q "$GRAFANA" 2>/dev/null; then
        compose --profile grafana up -d --no-build grafana
    else
        say "no Grafana: $GRAFANA cannot be had (set EVALX_GRAFANA_IMAGE)"
    fi
}

create_topics() { evalx_cli evalx topics create; }

start() {
    local start
    start=$(now)
    say "evalx"
    step "packages" packages install_missing runtime
    step "Docker daemon" docker ensure_docker
    step "Python environment (.venv)" venv ensure_venv requirements.lock
    step "images" images build_images $MONITORING
    grep -E ' built ' "$LOG_DIR/images.log" | sed 's/^/      /' || true
    step "Kafka and Redis" services start_services
    step "topics" topics create_topics
    step "worker and gateway" worker start_judging
    [ -z "$MONITORING" ] || step "monitoring" monitoring start_monitoring
    say ""
    evalx_cli evalx samples "$ROOT/examples" || die "the samples did not all get the right verdict"
    say ""
    say "Up after $(since "$start") s. Kafka is localhost:${EVALX_KAFKA_PORT:-9092}, Redis 127.0.0.1:${EVALX_REDIS_PORT:-6379}."
    say "HTTP, and a page to try it on, is http://127.0.0.1:${EVALX_GATEWAY_PORT:-3000}; see docs/http.md."
    [ -z "$MONITORING" ] || say "Prometheus is http://127.0.0.1:${EVALX_PROMETHEUS_PORT:-9090}; alerts: docs/runbook.md."
    say "Try: .venv/bin/evalx submit examples/aplusb/main.cpp --tests examples/aplusb/tests"
    say "See what goes on: .venv/bin/evalx top"
    say "Stop: ./start-dev.sh --stop"
}

status() {
    docker_answers || die "no Docker daemon answers"
    local service states failed=0
    for service in kafka redis worker gateway; do
        states=$(health "$service") || true
        printf '%-8s %s\n' "$service" "${states:-not running}" | tr '\n' ' '
        say ""
        all_healthy "$states" || failed=1
    done
    return "$failed"
}

stop() {
    docker_answers || die "no Docker daemon answers, so nothing of evalx runs"
    step "stopping" stop compose --profile monitoring --profile grafana down
    say "The data is kept in volumes. The Docker daemon goes on running, since other containers may need it$(
        [ ! -e "$RUN_DIR/dockerd.pid" ] || printf ' (it was started by this script, process %s)' "$(cat "$RUN_DIR/dockerd.pid")"
    )."
}

MONITORING=
case ${1:-} in
    '') start ;;
    --monitoring)
        MONITORING=--monitoring
        start
        ;;
    --status) status ;;
    --stop) stop ;;
    -h | --help) usage ;;
    *)
        usage >&2
        die "unknown argument: $1"
        ;;
esac
