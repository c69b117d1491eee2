#!/bin/sh
# Installs the Debian packages that the tests use; does nothing when they are there. Needs root.
set -eu
packages="python3-venv docker.io containerd runc iptables nftables haproxy nginx-light libnginx-mod-stream
          busybox-static iproute2 procps util-linux curl wrk etcd-server etcd-client docker-registry pebble docker-compose"
missing=
for package in $packages; do
    [ "$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing="$missing $package"
done
[ -n "$missing" ] || exit 0
if [ "$(id -u)" != 0 ]; then
    echo "These Debian packages are missing:$missing. Run ./test as root once, or ./test --fast without them." >&2
    exit 1
fi
export DEBIAN_FRONTEND=noninteractive
# Nothing is to be started by the installation: the tests start what they need, where they need it.
policy=/usr/sbin/policy-rc.d
if [ ! -e $policy ]; then
    printf '#!/bin/sh\nexit 101\n' > $policy && chmod +x $policy
    trap 'rm -f $policy' EXIT
fi
apt-get update -qq
apt-get install -y -qq --no-install-recommends $missing >/dev/null
