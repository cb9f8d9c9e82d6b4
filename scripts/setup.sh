# shellcheck shell=bash
# Functions that start-dev.sh, run-tests.sh and docker/build-images.sh share. To be sourced, not run.
#
# Everything here is idempotent and looks before it acts: a machine that has Docker, Compose or a
# virtual environment keeps what it has. Nothing here stops a daemon or a container.

# What is unused here is used by the scripts that source this.
# shellcheck disable=SC2034
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
RUN_DIR=$ROOT/.run
LOG_DIR=$RUN_DIR/logs
VENV=$ROOT/.venv
mkdir -p "$LOG_DIR"

# A first `docker info` after dockerd was started by hand takes 2-5 s; 60 s covers a slow disk.
DOCKERD_WAIT_S=60

if [ -t 1 ] && [ -z "${NO_COLOR:-}" ]; then
    GREEN=$'\e[32m' RED=$'\e[31m' YELLOW=$'\e[33m' RESET=$'\e[0m'
else
    GREEN='' RED='' YELLOW='' RESET=''
fi

# .env is Compose's file; what the environment already sets wins, as with Compose.
if [ -e "$ROOT/.env" ]; then
    while IFS='=' read -r name value; do
        if [[ $name =~ ^[A-Z_]+$ ]] && [ -z "${!name+set}" ]; then export "$name=$value"; fi
    done <"$ROOT/.env"
    unset name value
fi
IMAGE_PREFIX=${EVALX_IMAGE_PREFIX:-evalx-}
BASE_IMAGE=${EVALX_BASE_IMAGE:-debian:trixie-slim}

say() { printf '%s\n' "$*"; }
warn() { printf '%s%s%s\n' "$YELLOW" "$*" "$RESET" >&2; }
die() {
    printf '%s%s%s\n' "$RED" "$*" "$RESET" >&2
    exit 1
}

# Seconds with one decimal, for the times of steps.
now() { date +%s.%N; }
since() { awk -v a="$1" -v b="$(now)" 'BEGIN { printf "%.1f", b - a }'; }

# step TITLE LOG_NAME COMMAND...: runs COMMAND with its output in the log, prints the title and the time.
# A command that fails ends the script, with the end of its log as the cause.
step() {
    local title=$1 log=$LOG_DIR/$2.log start
    shift 2
    start=$(now)
    printf '  %-44s ' "$title"
    if ("$@") >"$log" 2>&1; then
        printf '%sok%s %8s s  %s\n' "$GREEN" "$RESET" "$(since "$start")" "$(tail -n 1 "$log" | cut -c 1-60)"
        return 0
    fi
    printf '%sfailed%s %4s s\n' "$RED" "$RESET" "$(since "$start")"
    say "    cause:"
    tail -n 15 "$log" | sed 's/^/      /'
    die "    step \"$title\" failed; the whole log is $log"
}

# as_root COMMAND...: as it is for root, through sudo else.
as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        say "this needs root and there is no sudo; run as root: $*"
        return 1
    fi
}

# apt COMMAND...: tries again on a broken connection, waits for another apt to end.
apt() {
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -o Acquire::Retries=3 -o DPkg::Lock::Timeout=300 "$@"
}

apt_update() {
    command -v apt-get >/dev/null || {
        say "this is no Debian or Ubuntu: install Docker, Compose, Python 3.11 and kcat by hand"
        return 1
    }
    apt update
}

apt_install() { apt install -y --no-install-recommends "$@"; }

# ---- what is missing ----------------------------------------------------------------------------

has_compose() { docker compose version >/dev/null 2>&1 || command -v docker-compose >/dev/null; }

# A python3 that can make virtual environments and is new enough for the project.
find_python() {
    local candidate
    for candidate in "${EVALX_PYTHON:-python3}" python3 python3.13 python3.12 python3.11 /usr/bin/python3; do
        if "$candidate" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            command -v "$candidate"
            return 0
        fi
    done
    return 1
}

# missing_packages runtime|tests: the Debian packages to install, one a line.
missing_packages() {
    command -v docker >/dev/null || printf '%s\n' docker.io docker-cli iptables
    command -v dockerd >/dev/null || docker_answers || printf '%s\n' docker.io iptables
    has_compose || printf '%s\n' docker-compose-v2 docker-compose
    find_python >/dev/null || printf '%s\n' python3 python3-venv
    command -v kcat >/dev/null || say kcat
    command -v flock >/dev/null || say util-linux
    [ "$1" != tests ] || { missing_compiler; missing_browser; }
}

# The gateway's page is tested in a headless Chromium, which draws no text without a font.
missing_browser() {
    command -v chromium >/dev/null || command -v chromium-browser >/dev/null ||
        printf '%s\n' chromium chromium-browser fonts-dejavu-core
}

# The runner's tests are built with sanitizers, whose libraries come along with Debian's gcc.
missing_compiler() {
    command -v make >/dev/null || say make
    echo 'int main(void) { return 0; }' | gcc -fsanitize=address,undefined -x c -o /dev/null - 2>/dev/null ||
        printf '%s\n' gcc libc6-dev
    # The parsers are fuzzed with libFuzzer, which is clang's.
    echo 'int LLVMFuzzerTestOneInput(const char *d, unsigned long n) { return d != 0 && n > 9; }' |
        clang -fsanitize=fuzzer,address,undefined -x c -o /dev/null - 2>/dev/null || printf '%s\n' clang libclang-rt-dev
}

# Names differ between releases: Debian 13 has the client in docker-cli, Debian 12 in docker.io; Ubuntu has Compose v2
# as docker-compose-v2 and a v1 that does not run, Debian has docker-compose alone. Before LLVM 14 clang itself brings
# what is in libclang-rt-dev. Chromium is chromium in Debian and chromium-browser in Ubuntu.
available_packages() {
    local package policy compose_found=0
    for package; do
        # Not a pipe into grep -q: with pipefail apt-cache's SIGPIPE would count as "not available".
        policy=$(apt-cache policy "$package")
        [[ $policy =~ Candidate:\ [0-9] ]] || case $package in
            docker-cli | docker-compose-v2 | libclang-rt-dev | chromium | chromium-browser) continue ;;
        esac
        case $package in
            docker-compose*)
                [ "$compose_found" -eq 0 ] || continue
                compose_found=1
                ;;
        esac
        printf '%s\n' "$package"
    done
}

install_missing() {
    local packages
    mapfile -t packages < <(missing_packages "$1" | sort -ru)
    if [ "${#packages[@]}" -eq 0 ]; then
        say "nothing was missing"
        return 0
    fi
    apt_update || return 1
    mapfile -t packages < <(available_packages "${packages[@]}")
    apt_install "${packages[@]}" && say "installed ${packages[*]}"
}

# ---- Docker -------------------------------------------------------------------------------------

docker_answers() { timeout 10 docker info >/dev/null 2>&1; }

# Starts dockerd only if no daemon answers. It stays up when the stack is stopped: other containers may use it.
ensure_docker() {
    local answer
    if docker_answers; then
        say "daemon $(docker version --format '{{.Server.Version}}') answers"
        return 0
    fi
    command -v docker >/dev/null || {
        say "there is no docker command; install the client (docker-cli or docker.io)"
        return 1
    }
    answer=$(timeout 10 docker info 2>&1 || true)
    if [[ $answer == *"ermission denied"* ]]; then
        say "this user may not use the Docker socket; run as root or join the group: usermod -aG docker $(id -un)"
        return 1
    fi
    if [ -n "${DOCKER_HOST:-}" ]; then
        say "DOCKER_HOST=$DOCKER_HOST is set and no daemon answers there"
        return 1
    fi
    # A second daemon would take the socket away from a first one that is only slow.
    if socket_is_served; then
        say "something listens on /var/run/docker.sock and gives no good answer: ${answer##*$'\n'}"
        return 1
    fi
    start_dockerd
}

socket_is_served() {
    [ -S /var/run/docker.sock ] && "$(find_python)" -c 'import socket
socket.socket(socket.AF_UNIX).connect("/var/run/docker.sock")' 2>/dev/null
}

start_dockerd() {
    if [ -d /run/systemd/system ]; then
        as_root systemctl start docker || say "systemctl start docker failed; see: journalctl -u docker"
    else
        # setsid: a Ctrl-C in this terminal must not take the daemon down.
        # shellcheck disable=SC2024  # the log belongs to the user on purpose
        as_root setsid --fork dockerd >"$RUN_DIR/dockerd.log" 2>&1 </dev/null || return 1
    fi
    local waited
    for ((waited = 0; waited < DOCKERD_WAIT_S; waited++)); do
        if docker_answers; then
            cp /run/docker.pid "$RUN_DIR/dockerd.pid" 2>/dev/null || cp /var/run/docker.pid "$RUN_DIR/dockerd.pid" 2>/dev/null
            say "daemon started"
            return 0
        fi
        sleep 1
    done
    tail -n 20 "$RUN_DIR/dockerd.log" 2>/dev/null
    say "dockerd was started and does not answer after $DOCKERD_WAIT_S s; its log is $RUN_DIR/dockerd.log"
    return 1
}

# compose ARGUMENT...: Compose v2 if there is one, else v1, on this project's file and environment.
compose() {
    export DOCKER_GID COMPOSE_PROJECT_NAME=${COMPOSE_PROJECT_NAME:-evalx}
    DOCKER_GID=${DOCKER_GID:-$(stat -c %g /var/run/docker.sock 2>/dev/null || echo 0)}
    if docker compose version >/dev/null 2>&1; then
        (cd "$ROOT" && docker compose "$@")
    else
        (cd "$ROOT" && docker-compose "$@")
    fi
}

# ---- Python -------------------------------------------------------------------------------------

# ensure_venv requirements.lock|requirements-dev.lock: installs only when a lock or pyproject.toml changed.
ensure_venv() {
    local lock=$ROOT/$1 python stamp want
    stamp=$VENV/.evalx-$1
    want=$(cat "$ROOT/requirements.lock" "$lock" "$ROOT/pyproject.toml" | sha256sum | cut -d ' ' -f 1)
    if [ -x "$VENV/bin/evalx" ] && [ "$(cat "$stamp" 2>/dev/null)" = "$want" ]; then
        say "up to date"
        return 0
    fi
    if [ ! -x "$VENV/bin/python" ]; then
        python=$(find_python) || {
            say "no Python >= 3.11 with the venv module"
            return 1
        }
        "$python" -m venv "$VENV" || return 1
    fi
    export PIP_DISABLE_PIP_VERSION_CHECK=1
    "$VENV/bin/python" -m pip install -q --retries 5 -r "$lock" || return 1
    "$VENV/bin/python" -m pip install -q --no-deps -e "$ROOT" || return 1
    printf '%s\n' "$want" >"$stamp"
    say "installed for $("$VENV/bin/python" -V)"
}

# evalx_cli ARGUMENT...: the command on this stack. Variables of the set-up alone are no settings of it.
evalx_cli() {
    env -u EVALX_KAFKA_PORT -u EVALX_REDIS_PORT -u EVALX_KAFKA_HEAP -u EVALX_BASE_IMAGE -u EVALX_DEBIAN_MIRROR \
        -u EVALX_PYTHON -u EVALX_WORKERS \
        EVALX_KAFKA_BOOTSTRAP="localhost:${EVALX_KAFKA_PORT:-9092}" \
        EVALX_REDIS_URL="redis://127.0.0.1:${EVALX_REDIS_PORT:-6379}/0" \
        "$VENV/bin/$1" "${@:2}"
}

build_images() { "$ROOT/docker/build-images.sh" "$@"; }
