#!/usr/bin/env bash
# Makes sure that the base of every image, debian:trixie-slim, exists: pulled if a registry answers, else
# bootstrapped from Debian's own archive. EVALX_BASE_IMAGE names another tag, EVALX_DEBIAN_MIRROR another mirror.
set -euo pipefail
# shellcheck source=scripts/setup.sh
source "$(dirname "${BASH_SOURCE[0]}")/../scripts/setup.sh"

# An unreachable registry usually refuses within 15 s; 90 s lets a slow line finish a pull of 30 MB.
PULL_TIMEOUT_S=90

bootstrap() {
    if ! command -v mmdebstrap >/dev/null || [ ! -e /usr/share/keyrings/debian-archive-keyring.gpg ]; then
        apt_update
        apt_install mmdebstrap debian-archive-keyring
    fi
    # What Debian's own slim images leave out; package caches and lists are of no use in a base either.
    as_root mmdebstrap --variant=minbase --quiet \
        --dpkgopt='path-exclude=/usr/share/man/*' \
        --dpkgopt='path-exclude=/usr/share/doc/*' \
        --dpkgopt='path-exclude=/usr/share/locale/*' \
        --dpkgopt='path-exclude=/usr/share/info/*' \
        --dpkgopt='path-include=/usr/share/doc/*/copyright' \
        --aptopt='Acquire::Languages "none"' \
        --aptopt='Acquire::Retries "3"' \
        trixie - ${EVALX_DEBIAN_MIRROR:+"$EVALX_DEBIAN_MIRROR"} |
        docker import --change 'CMD ["bash"]' \
            --change 'ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin' \
            --message 'bootstrapped with mmdebstrap' - "$BASE_IMAGE"
}

main() {
    exec 9>"$RUN_DIR/base.lock"
    flock 9
    if docker image inspect "$BASE_IMAGE" >/dev/null 2>&1; then
        say "$BASE_IMAGE is there"
    elif timeout "$PULL_TIMEOUT_S" docker pull -q "$BASE_IMAGE"; then
        say "$BASE_IMAGE pulled"
    else
        say "no registry answers, bootstrapping $BASE_IMAGE"
        bootstrap
        say "$BASE_IMAGE bootstrapped"
    fi
}

main
