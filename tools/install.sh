#!/bin/sh
# install.sh VENV THING...: make a virtual environment and install into it, pinned by constraints.txt.
# One pip command, since the runtimes' pins only fit together when they are resolved at once. torch_index.py says where
# PyTorch comes from; TORCH_INDEX=URL or TORCH_INDEX=pypi decides it instead.
set -eu
venv=$1
shift
if [ -z "${PYTHON:-}" ]; then
    echo "handful: no Python 3.11, 3.12 or 3.13 found; install one, or run: make PYTHON=/path/to/python demo" >&2
    exit 2
fi
if ! "$PYTHON" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))'; then
    echo "handful: $PYTHON is $("$PYTHON" -V 2>&1); wanted Python 3.11, 3.12 or 3.13, for which the pinned set was resolved; run: make PYTHON=/path/to/python demo" >&2
    exit 2
fi
[ -x "$venv/bin/python" ] || "$PYTHON" -m venv "$venv" || {
    echo "handful: could not make $venv; on Debian and Ubuntu run: sudo apt-get install python3-venv" >&2
    exit 2
}
log=$venv/install.log
echo "handful: installing into $venv (the first time takes minutes; full log in $log)" >&2
set -- --editable "$@"
index=$("$PYTHON" "$(dirname "$0")/torch_index.py" ${NVIDIA_DRIVER:+--driver "$NVIDIA_DRIVER"} ${CPU_INDEX:+--cpu-index "$CPU_INDEX"})
if [ -n "$index" ]; then
    set -- --extra-index-url "$index" "$@"
fi
if ! "$venv/bin/python" -m pip install --disable-pip-version-check --retries 2 -c constraints.txt "$@" >"$log" 2>&1; then
    if grep -qiE 'Temporary failure in name resolution|Failed to establish a new connection|NewConnectionError|ConnectTimeout|Network is unreachable|ProxyError|Name or service not known|nodename nor servname|Could not fetch URL|getaddrinfo' "$log"; then
        echo "handful: the packages could not be downloaded: no network, or the package index is out of reach; go online and run the same command again" >&2
    else
        echo "handful: the install failed: $(grep -iE '^ERROR' "$log" | tail -n 1); the whole log is in $log" >&2
        [ -z "$index" ] || echo "handful: without $index: TORCH_INDEX=pypi, and the same command again" >&2
    fi
    exit 2
fi
