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
    said=$(mktemp) || return 1
    if ! "$venv/bin/python" -m pip install -q --disable-pip-version-check --require-hashes -r "$lock" 2>"$said"; then
        explain_pip "$venv/bin/python" "$lock" "$said"
        rm -f "$said"
        return 1
    fi
    cat "$said" >&2
    rm -f "$said"
    install_checkout "$venv" "${3:-}" || return 1
    echo "$wanted" > "$venv/.stamp"
}

# pip names the first package of the file, whatever kept it from having it.
explain_pip() {
    if grep -qE 'Failed to establish a new connection|Connection(Reset|Refused)?Error|Max retries|[Tt]imed out|Network is unreachable' "$3"; then
        index=${PIP_INDEX_URL:-$("$1" -m pip config get global.index-url 2>/dev/null || echo https://pypi.org/simple)}
        index=$(echo "$index" | sed 's#//[^/@]*@#//#')  # without a password
        echo "The Python packages of $2 could not be fetched: their index, $index, does not answer." >&2
        echo "Check this machine's network. Behind a proxy set HTTPS_PROXY. Then run the same again." >&2
    elif grep -q 'No space left on device' "$3"; then
        echo "The Python packages of $2 do not fit: the disk is full (df -h . /tmp). Make room, and run the same again." >&2
    else
        cat "$3" >&2
        echo "The Python packages of $2 could not be installed; pip's reason is above." >&2
    fi
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
