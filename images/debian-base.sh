#!/usr/bin/env bash
# Makes a base image out of Debian's packages, for builds that reach no container registry:
#     images/debian-base.sh NAME [ARGUMENT OF mmdebstrap]...
#     make images BASE=NAME
# Needs root, mmdebstrap and podman or docker. It holds what the pinned base image holds and the Dockerfile
# uses: Python 3.11 with venv, a shell, certificates and the C++ library.
set -euo pipefail
if [ $# = 0 ]; then
    echo "usage: images/debian-base.sh NAME [ARGUMENT OF mmdebstrap]..." >&2
    exit 2
fi
name=$1
shift
mmdebstrap --quiet --variant=essential --include=ca-certificates,libstdc++6,python3,python3-venv \
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
    --dpkgopt='path-exclude=/usr/share/man/*' "$@" bookworm - |
    "${ENGINE:-podman}" import --change 'CMD ["/bin/sh"]' - "$name"
