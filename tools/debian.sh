#!/bin/sh
# Installs the Debian packages that the tests use; does nothing when they are there. Needs root to install.
set -eu
packages="python3-venv docker.io containerd runc iptables nftables haproxy nginx-light libnginx-mod-stream
          busybox-static iproute2 procps util-linux curl wrk etcd-server etcd-client docker-registry pebble
          docker-compose chromium nghttp2-client nghttp2-proxy nghttp2-server"

# The packages that are not installed. The docker command is a package of its own since Debian 13.
missing() {
    for package in $packages; do
        [ "$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || printf ' %s' "$package"
    done
    command -v docker >/dev/null || ! apt-cache show docker-cli >/dev/null 2>&1 || printf ' docker-cli'
}

if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
    echo "tools/debian.sh: this is no Debian: install what these packages hold, then run ./test --fast:" $packages >&2
    exit 1
fi
wanted=$(missing)
[ -n "$wanted" ] || exit 0
if [ "$(id -u)" != 0 ]; then
    echo "These Debian packages are missing:$wanted. Run ./test as root once, or ./test --fast without them." >&2
    exit 1
fi

# One at a time: apt waits for nobody who updates its lists. What another run installed meanwhile is not missing.
exec 9>/run/lock/essaim-debian.lock
flock 9
wanted=$(missing)
[ -n "$wanted" ] || exit 0

# Nothing is to be started by the installation: the tests start what they need, where they need it.
# A policy that was here before stays; ours goes whatever happens, also one that a killed run left behind.
policy=/usr/sbin/policy-rc.d
mark="# essaim tools/debian.sh"
if [ ! -e $policy ] || grep -qxF "$mark" $policy; then
    trap 'rm -f $policy' EXIT
    trap 'exit 129' HUP
    trap 'exit 130' INT
    trap 'exit 143' TERM
    printf '#!/bin/sh\n%s\nexit 101\n' "$mark" > $policy
    chmod +x $policy
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq 9>&-
wanted=$(missing)
if ! apt-get install -y -qq --no-install-recommends -o DPkg::Lock::Timeout=300 $wanted >/dev/null 9>&-; then
    echo "apt-get could not install:$wanted; its reason is above. Does this machine reach its Debian mirror?" >&2
    echo "Then run the same again. ./test --fast needs none of these packages." >&2
    exit 1
fi
