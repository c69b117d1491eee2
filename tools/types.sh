#!/bin/sh
# Type check. mypy does not follow setuptools' folder map, so it is shown a tree of links with the import names.
set -eu
cd "$(dirname "$0")/.."
rm -rf build/types
mkdir -p build/types/essaim
for room in agent api certificates cli cluster configs daemon gateway network raft scheduler secrets stacks; do
    [ -d "$room" ] && ln -s "../../../$room" "build/types/essaim/$room"
done
exec mypy --cache-dir build/mypy -p essaim
