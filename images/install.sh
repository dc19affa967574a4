#!/bin/sh
# Fills the virtual environment with a target's requirements. Then takes out what only installing and compiling
# against it need, and compiles the rest: without its bytecode, which a read-only root cannot receive,
# TensorFlow takes ten seconds to import.
set -eu
root=/opt/optduel
packages=$(echo "$root"/lib/python3.*/site-packages)

"$root/bin/python3" -m pip install --require-hashes --no-deps --no-build-isolation -r /build/requirements.txt

names() {
    sed -n 's/^\([A-Za-z0-9_.-]*\)==.*/\1/p' "$1"
}

names /build/requirements.txt >/build/needed
# pip itself last of all: it takes out the others.
"$root/bin/python3" -m pip uninstall --quiet --yes \
    $(names /build/requirements-build.txt | grep -vxFf /build/needed) pip

# Headers, static libraries and tests, but for one of NumPy's test modules, which numpy.testing imports.
rm -rf "$packages/tensorflow/xla_aot_runtime_src"
find "$packages" -type d \( -name include -o -name tests \) -not -path "$packages/numpy/_core/tests" \
    -prune -exec rm -rf {} +
find "$packages" -type f -name '*.a' -delete

"$root/bin/python3" /build/cut_symbols.py "$packages/tensorflow"

"$root/bin/python3" -m compileall -q -j 0 --invalidation-mode unchecked-hash "$packages"
