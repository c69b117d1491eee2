# Process 1 of a lab host. Arguments: the host's name, its /etc/hosts.
# Writes two lines: its process id as the machine counts, then `ready` once the host's own folders are mounted.
# Killing it ends every process of the host; it reaps those whose parents died.
set -eu
read -r outer _ < /proc/self/stat
echo "$outer"
hostname "$1"
mount -t proc proc /proc
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p /run/lock
mount --bind "$2" /etc/hosts
echo ready
exec > /dev/null
# `wait` without operands collects every child of this shell, adopted ones included.
sleep infinity &
wait
