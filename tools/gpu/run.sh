#!/usr/bin/env bash
# Install what is missing from wheels, then measure: see README.md in this folder.
#
# bash tools/gpu/run.sh [options of python -m tools.gpu]
#
# PYTHON names the interpreter that has torch; OUT is the folder of the results.
set -euo pipefail
cd "$(dirname "$0")/../.."
python=${PYTHON:-python3} site=$PWD/build/gpu/site
if [ ! -e "$site/.whole" ]; then
  rm -rf "$site"
  "$python" -m pip install --quiet --no-index --no-deps --no-compile --no-cache-dir \
    --disable-pip-version-check --target "$site" build/gpu/wheels/*.whl
  touch "$site/.whole"
fi
export PYTHONPATH=$PWD:$site
exec "$python" -m tools.gpu --out "${OUT:-build/gpu/out}" "$@"
