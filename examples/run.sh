#!/usr/bin/env bash
# Installs what is missing on Debian, builds the examples, trains a small model by a few optimizers, and compresses the
# language model that comes with them.
set -euo pipefail
cd "$(dirname "$0")/.."
. cmake/debian_packages.sh

need $(unless g++ g++) $(unless cmake cmake) $(unless ninja ninja-build) \
  libeigen3-dev libxsimd-dev nlohmann-json3-dev libcli11-dev libfmt-dev

cmake --preset release -B build/examples -DTESSERA_BUILD_TESTS=OFF -DTESSERA_BUILD_BENCH=OFF
cmake --build build/examples -j "$(nproc)"
build/examples/examples/lm/optim_lab --steps 60 --tune-steps 0 --batch 4 --optimizers adamw=0.01 muon=0.06 lion=0.001 momentum=0.1
exec build/examples/examples/lm/compress_lm
