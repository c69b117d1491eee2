#!/bin/sh
# Rewrites both lock files from pyproject.toml (versions and hashes; run after changing a dependency).
set -eu
cd "$(dirname "$0")/.."
uv=${UV:-.venv/bin/uv}
lock() {
    "$uv" pip compile - --universal --python-version 3.11 --generate-hashes --no-annotate --no-header \
        --quiet --no-emit-index-url --no-emit-find-links "$@"
}
python3 - runtime <<'PY' | lock -o requirements.lock
import tomllib
project = tomllib.load(open("pyproject.toml", "rb"))
print("\n".join(project["project"]["dependencies"] + project["build-system"]["requires"]))
PY
python3 - <<'PY' | lock -o requirements-dev.lock
import tomllib
project = tomllib.load(open("pyproject.toml", "rb"))
wanted = project["project"]["dependencies"] + project["project"]["optional-dependencies"]["dev"]
print("\n".join(wanted + project["build-system"]["requires"]))
PY
