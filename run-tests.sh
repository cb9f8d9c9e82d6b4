#!/usr/bin/env bash
# Sets up what is missing and runs every check and test, against real Kafka, Redis and Docker.
#
# pytest comes last so that its summary is the end of the output. Any failure before it ends the run.
set -euo pipefail
# shellcheck source=scripts/setup.sh
source "$(dirname "${BASH_SOURCE[0]}")/scripts/setup.sh"

usage() {
    cat <<'TEXT'
Usage: ./run-tests.sh [--setup | PYTEST ARGUMENT...]

Installs what is missing, builds the images, then runs the runner's own tests, a minute of fuzzing, ruff, mypy,
import-linter, the check of the schemas, and pytest with the arguments given.

With --setup it only installs and builds what tests and benches need.
With EVALX_MEASURE=true also a minute of bench against the committed reference, before pytest.

Example: ./run-tests.sh tests/unit -k lanes
Logs of the steps are in .run/logs/.
TEXT
}

runner_tests() { make -C "$ROOT/docker/sandbox/runner" test; }
fuzz() { make -C "$ROOT/docker/sandbox/runner" fuzz; }
lint() { "$VENV/bin/ruff" check . && "$VENV/bin/ruff" format --check .; }
types() { "$VENV/bin/mypy"; }
imports() { "$VENV/bin/lint-imports"; }
schemas() { evalx_cli evalx schema --check schemas; }
headline() { env EVALX_IMAGE_PREFIX="$IMAGE_PREFIX" "$VENV/bin/python" -m bench ci; }

set_up() {
    cd "$ROOT"
    step "packages" packages install_missing tests
    step "Docker daemon" docker ensure_docker
    step "Python environment (.venv)" venv ensure_venv requirements-dev.lock
    step "images" images build_images --monitoring
}

main() {
    case ${1:-} in
        -h | --help)
            usage
            exit 0
            ;;
        --setup)
            set_up
            exit 0
            ;;
    esac
    set_up
    step "runner's tests (ASan, UBSan)" runner-tests runner_tests
    step "fuzz the parsers (1 min)" fuzz fuzz
    step "ruff" ruff lint
    step "mypy --strict" mypy types
    step "import-linter" import-linter imports
    step "schemas" schemas schemas
    # Not for a developer at each run: it says something only on a machine that does nothing else.
    [ "${EVALX_MEASURE:-}" != true ] || step "headline against bench/reference.json (1 min)" headline headline
    exec "$VENV/bin/python" -m pytest "$@"
}

main "$@"
