# Sourced by ./demo, ./test and ./install: `make_venv DIR LOCKFILE [plain]` creates or refreshes a virtual environment
# with exactly the packages of LOCKFILE and this checkout (a link to it, or with `plain` a copy of its code), and does
# nothing when it is up to date already.

find_python() {
    for candidate in "${PYTHON:-}" python3 python3.13 python3.12 python3.11; do
        [ -n "$candidate" ] || continue
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            echo "$candidate"
            return 0
        fi
    done
    echo "essaim needs Python 3.11 or newer; none was found (set PYTHON=/path/to/python3)." >&2
    return 1
}

make_venv() {
    venv=$1 lock=$2
    python=$(find_python) || return 1
    wanted=$(cat "$lock" pyproject.toml | cksum)-$("$python" -V)
    [ "$(cat "$venv/.stamp" 2>/dev/null)" = "$wanted" ] && return 0
    echo "Preparing the virtual environment $venv (once) ..." >&2
    # A half-made environment is made anew: the stamp is written last.
    rm -rf "$venv"
    if ! "$python" -m venv "$venv"; then
        echo "Python's venv module does not work here. On Debian: apt-get install python3-venv" >&2
        return 1
    fi
    if ! "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes -r "$lock"; then
        # pip names the first package of the file, whatever kept it from having it.
        echo "The Python packages of $lock could not be installed. Does this machine reach its package index" >&2
        echo "(\`$venv/bin/python -m pip config list\` shows which)? Is the disk full? Then run the same again." >&2
        return 1
    fi
    install_checkout "$venv" "${3:-}" || return 1
    echo "$wanted" > "$venv/.stamp"
}

install_checkout() {
    if [ "$2" != plain ]; then
        "$1/bin/python" -m pip install -qq --disable-pip-version-check --no-build-isolation --no-deps -e .
        return
    fi
    # From a copy: a build leaves files behind, and takes what an earlier one left.
    copy=$(mktemp -d) || return 1
    tar -c --exclude='./.*' --exclude=./build --exclude=./tests --exclude='*.egg-info' . | tar -x -C "$copy" &&
        "$1/bin/python" -m pip install -qq --disable-pip-version-check --no-build-isolation --no-deps "$copy"
    status=$?
    rm -rf "$copy"
    return $status
}
