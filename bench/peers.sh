#!/bin/bash
# Puts the runtimes that berth is measured against under target/peers/: runc from the machine's own
# Debian, crun from Debian 13. Debian 12's crun (1.8) is too old to be a fair peer and cannot use the
# cgroup2 mount of a host whose controllers are on v1; Debian 13's needs a newer C library than
# Debian 12 has, so it is unpacked beside its libraries and pointed at them. Nothing is installed.
#
# usage: bench/peers.sh [DIRECTORY]      (default: target/peers)
# prints one line per peer that is ready; a second call does nothing.
set -euo pipefail

cd "$(dirname "$0")/.."
peers=$(realpath -m "${1:-target/peers}")

mkdir -p "$peers"
if runc=$(command -v runc); then
    ln -sfn "$runc" "$peers/runc"
fi
[ -x "$peers/crun" ] || {
    integration/unpack trixie "$peers/crun-root" usr/bin/crun crun
    ln -sfn "$peers/crun-root/crun" "$peers/crun"
}
# youki is in no Debian: it takes part where someone has built it.
for youki in "${YOUKI:-}" "$(command -v youki || true)" /opt/youki/bin/youki; do
    if [ -x "$youki" ]; then ln -sfn "$youki" "$peers/youki"; break; fi
done
for peer in runc crun youki; do
    [ -x "$peers/$peer" ] && echo "$peer: $("$peers/$peer" --version | sed -n 1p)"
done
exit 0
