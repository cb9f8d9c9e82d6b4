#!/usr/bin/env bash
# Builds the images of evalx, and skips those that are up to date.
#
# How it works: the files that go into an image are staged in docker/build/NAME, and their hash, with the ids of the
# images below, becomes the label evalx.inputs. An image whose label equals the hash is up to date. Staging makes one
# Dockerfile work with the legacy builder and with BuildKit alike: neither needs mounts, and neither sends the whole tree.
# The host's CA bundle joins the staged files after the hash was taken, for builds that talk HTTPS behind an inspecting
# proxy; those builds are multi-stage, so that it is trusted in no finished image.
set -euo pipefail
# shellcheck source=scripts/setup.sh
source "$(dirname "${BASH_SOURCE[0]}")/../scripts/setup.sh"

ALL=(runner sandbox-c-cpp sandbox-python sandbox-java21 sandbox-java25 sandbox-javascript kafka redis worker)
# What --monitoring adds.
MONITORING=(prometheus)
STAGE_DIR=$ROOT/docker/build
CA_DIR=$ROOT/docker/ca
RESULT_DIR=$(mktemp -d)
trap 'rm -rf "$RESULT_DIR"' EXIT

usage() {
    cat <<TEXT
Usage: docker/build-images.sh [--only NAME]... [--jobs N] [--list]

Builds all images, or those named (and what they need), and skips what is up to date.
  --only NAME  one of: ${ALL[*]} ${MONITORING[*]}
  --jobs N     builds at a time (default: the number of cores, at most 4)
  --monitoring builds Prometheus as well
  --list       prints the names of the images and ends

Example: docker/build-images.sh --only sandbox-python --only worker --jobs 2
Logs are in .run/logs/image-NAME.log.
TEXT
}

# stage NAME: prints nothing, fills docker/build/NAME with what goes into the image.
stage() {
    local dir=$STAGE_DIR/$1
    rm -rf "$dir" && mkdir -p "$dir" || return 1
    case $1 in
        runner)
            (cd "$ROOT/docker/sandbox/runner" && cp Dockerfile Makefile ./*.[ch] "$dir/")
            ;;
        sandbox-python)
            # The interpreter's side of what the runner says to it.
            cp -r "$ROOT/docker/sandbox/python/." "$ROOT/docker/sandbox/runner/warmserver.h" "$dir/"
            ;;
        sandbox-java[0-9]*)
            cp -r "$ROOT/docker/sandbox/${1#sandbox-}/." "$ROOT/docker/sandbox/java/warm" \
                "$ROOT/docker/sandbox/runner/warmserver.h" "$dir/" &&
                cp "$ROOT/docker/sandbox/python/warm/fork.c" "$dir/warm/"
            ;;
        sandbox-*) cp -r "$ROOT/docker/sandbox/${1#sandbox-}/." "$dir/" ;;
        worker)
            cp -r "$ROOT/docker/worker/." "$ROOT/pyproject.toml" "$ROOT/requirements.lock" "$ROOT/README.md" \
                "$ROOT/LICENSE" "$ROOT/evalx" "$dir/" &&
                find "$dir" -name __pycache__ -prune -exec rm -rf {} +
            ;;
        *) cp -r "$ROOT/docker/$1/." "$dir/" ;;
    esac
}

image_id() { docker image inspect --format '{{.Id}}' "$1" 2>/dev/null || true; }
label() { docker image inspect --format '{{index .Config.Labels "evalx.inputs"}}' "$1" 2>/dev/null || true; }

# inputs NAME: one hash over names, modes and bytes of the staged files and over the images below.
inputs() {
    {
        (cd "$STAGE_DIR/$1" && find . -type f -printf '%p %m\n' | sort && find . -type f -print0 | sort -z | xargs -0 sha256sum)
        image_id "$BASE_IMAGE"
        case $1 in sandbox-*) image_id "${IMAGE_PREFIX}runner:latest" ;; esac
    } | sha256sum | cut -d ' ' -f 1
}

# The CA bundle of the host, as it is: an inspecting proxy's certificate is in it, if there is one.
collect_ca() {
    local bundle
    mkdir -p "$CA_DIR"
    : >"$CA_DIR/bundle.crt.$$"
    for bundle in "${SSL_CERT_FILE:-}" /etc/ssl/certs/ca-certificates.crt /etc/pki/tls/certs/ca-bundle.crt; do
        if [ -n "$bundle" ] && [ -s "$bundle" ]; then
            cat "$bundle" >"$CA_DIR/bundle.crt.$$"
            break
        fi
    done
    mv "$CA_DIR/bundle.crt.$$" "$CA_DIR/bundle.crt"
}

build_args() {
    local name
    printf '%s\n' --build-arg "BASE=$BASE_IMAGE"
    case $1 in sandbox-*) printf '%s\n' --build-arg "RUNNER=${IMAGE_PREFIX}runner:latest" ;; esac
    for name in HTTP_PROXY HTTPS_PROXY NO_PROXY http_proxy https_proxy no_proxy; do
        [ -z "${!name:-}" ] || printf '%s\n' --build-arg "$name=${!name}"
    done
    if [ "$1" = worker ] && [ -n "${PIP_INDEX_URL:-}" ]; then
        printf '%s\n' --build-arg "PIP_INDEX_URL=$PIP_INDEX_URL"
    fi
}

docker_build() {
    local name=$1 hash=$2 args
    case $name in kafka | worker) cp -r "$CA_DIR" "$STAGE_DIR/$name/ca" || return 1 ;; esac
    mapfile -t args < <(build_args "$name")
    if docker buildx version >/dev/null 2>&1; then
        # The builder "default" is the daemon's own: others do not see local images.
        export DOCKER_BUILDKIT=1 BUILDX_BUILDER=default
    else
        export DOCKER_BUILDKIT=0
    fi
    docker build --force-rm "${args[@]}" --label "evalx.inputs=$hash" -t "$IMAGE_PREFIX$name:latest" "$STAGE_DIR/$name"
}

# build NAME: leaves "state seconds" in the result file. Two scripts at once: the second finds the image up to date.
build() {
    local name=$1 image=$IMAGE_PREFIX$1:latest start old state hash=
    start=$(now)
    exec 8>"$RUN_DIR/image-$name.lock"
    flock 8
    old=$(image_id "$image")
    # In a condition `set -e` is off, so each part has to say that it failed.
    if ! { stage "$name" && hash=$(inputs "$name"); } 2>>"$LOG_DIR/image-$name.log"; then
        state=FAILED
    elif [ "$(label "$image")" = "$hash" ]; then
        state='up to date'
    elif docker_build "$name" "$hash" >"$LOG_DIR/image-$name.log" 2>&1; then
        state=built
        # The image replaced goes, unless a container still uses it.
        [ -z "$old" ] || [ "$old" = "$(image_id "$image")" ] || docker rmi "$old" >/dev/null 2>&1 || true
    else
        state=FAILED
    fi
    rm -rf "${STAGE_DIR:?}/$name"
    printf '%s|%s\n' "$state" "$(since "$start")" >"$RESULT_DIR/$name"
}

# build_all JOBS NAME...: the runner first, since the sandboxes copy it.
build_all() {
    local jobs=$1 name
    shift
    for name; do
        [ "$name" != runner ] || build runner
    done
    ! grep -q FAILED "$RESULT_DIR/runner" 2>/dev/null || return 0
    for name; do
        [ "$name" != runner ] || continue
        while [ "$(jobs -rp | wc -l)" -ge "$jobs" ]; do wait -n || true; done
        build "$name" &
    done
    wait
}

# report NAME...: the table; fails if an image did.
report() {
    local name state seconds size failed=0
    printf '%-28s %-11s %9s %10s\n' image state seconds size
    for name; do
        IFS='|' read -r state seconds <"$RESULT_DIR/$name" 2>/dev/null || { state='not built' seconds=-; }
        size=$(docker image inspect --format '{{.Size}}' "$IMAGE_PREFIX$name:latest" 2>/dev/null || echo 0)
        printf '%-28s %-11s %9s %7d MB\n' "$IMAGE_PREFIX$name" "$state" "$seconds" "$((size / 1000000))"
        case $state in built | 'up to date') ;; *) failed=1 ;; esac
    done
    [ "$failed" -eq 0 ] || {
        for name; do
            ! grep -q FAILED "$RESULT_DIR/$name" 2>/dev/null || {
                say "--- $LOG_DIR/image-$name.log"
                tail -n 12 "$LOG_DIR/image-$name.log"
            }
        done
        return 1
    }
}

parse() {
    NAMES=()
    JOBS=$(nproc)
    [ "$JOBS" -le 4 ] || JOBS=4
    while [ $# -gt 0 ]; do
        case $1 in
            --only)
                [ $# -ge 2 ] || die "--only needs a name"
                NAMES+=("${2#"$IMAGE_PREFIX"}")
                shift
                ;;
            --jobs)
                [[ ${2:-} =~ ^[1-9][0-9]*$ ]] || die "--jobs needs a number"
                JOBS=$2
                shift
                ;;
            --monitoring) ALL+=("${MONITORING[@]}") ;;
            --list)
                printf "$IMAGE_PREFIX%s\n" "${ALL[@]}"
                exit 0
                ;;
            -h | --help)
                usage
                exit 0
                ;;
            *) usage >&2 && die "unknown argument: $1" ;;
        esac
        shift
    done
}

main() {
    local name known
    parse "$@"
    [ "${#NAMES[@]}" -gt 0 ] || NAMES=("${ALL[@]}")
    known=" ${ALL[*]} ${MONITORING[*]} "
    for name in "${NAMES[@]}"; do
        [[ $known == *" $name "* ]] || die "unknown image: $name (known:$known)"
    done
    [[ " ${NAMES[*]} " == *" runner "* || " ${NAMES[*]} " != *" sandbox-"* ]] || NAMES=(runner "${NAMES[@]}")
    "$ROOT/docker/base.sh"
    collect_ca
    build_all "$JOBS" "${NAMES[@]}"
    report "${NAMES[@]}"
}

main "$@"
