#!/usr/bin/env bash
# Builds the images of the named targets with docker, podman or buildah: `make images` calls it.
# Environment: ENGINE, IMAGE, TAG, BASE, BUILD_FLAGS, as the Makefile describes them.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export DOCKER_BUILDKIT=1 # older clients of docker mount no secrets without it

works() {
    case $1 in
    docker) docker info && docker build --help ;; # the latter fails where BuildKit's client is missing
    podman | buildah) "$1" info ;;
    *) false ;;
    esac >/dev/null 2>&1
}

choose_engine() {
    local engine
    for engine in ${ENGINE:-docker podman buildah}; do
        if works "$engine"; then
            echo "$engine"
            return
        fi
    done
    if [ -n "${ENGINE:-}" ]; then
        echo "images: ENGINE = $ENGINE: does not work here; see what '$ENGINE info' and '$ENGINE build' say" >&2
    else
        echo "images: found no docker, podman or buildah that works; install one, or start docker's daemon" >&2
    fi
    return 1
}

# One setting of the host's pip, from its environment or its files; empty where there is none.
setting() {
    local variable
    variable=PIP_$(echo "$1" | tr a-z- A-Z_)
    if [ -n "${!variable:-}" ]; then
        echo "${!variable}"
    else
        "${PYTHON:-python3}" -m pip config get "global.$1" 2>/dev/null || true
    fi
}

engine=$(choose_engine)
version=$(git describe --always --abbrev=12 --dirty=-modified 2>/dev/null || echo unknown)
image=${IMAGE:-optduel}:${TAG:-$version}

secrets=$(mktemp -d)
trap 'rm -rf "$secrets"' EXIT
{
    echo "[global]"
    for name in index-url extra-index-url trusted-host proxy; do
        value=$(setting "$name" | tr '\n' ' ')
        [ -z "$value" ] || echo "$name = $value"
    done
    certificates=$(setting cert)
    [ -z "$certificates" ] || echo "cert = /run/secrets/certificates"
} >"$secrets/pip"
cat ${certificates:+"$certificates"} </dev/null >"$secrets/certificates"

arguments=(--file images/Dockerfile --build-arg "VERSION=$version")
arguments+=(--secret "id=pip,src=$secrets/pip" --secret "id=certificates,src=$secrets/certificates")
[ -z "${BASE:-}" ] || arguments+=(--build-arg "BASE=$BASE")

for target in "$@"; do
    # BUILD_FLAGS holds several words.
    # shellcheck disable=SC2086
    "$engine" build "${arguments[@]}" ${BUILD_FLAGS:-} --target "$target" --tag "$image-$target" .
done
for target in "$@"; do
    if [ "$engine" = buildah ]; then
        size=$(buildah images --format '{{.Size}}' "$image-$target")
    else
        bytes=$("$engine" image inspect --format '{{.Size}}' "$image-$target")
        size=$(awk "BEGIN {printf \"%.2f GB\", $bytes / 1e9}")
    fi
    echo "$image-$target  $size"
done
