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
suite=trixie
packages=(crun libc6 libcap2 libgcc-s1 libseccomp2 libsystemd0 libyajl2)

# The mirror that this machine already uses for Debian itself, from apt's own account of its sources.
debian_mirror() {
    apt-get indextargets --format '$(ORIGIN)|$(LABEL)|$(REPO_URI)' 'Identifier: Packages' |
        awk -F'|' '$1 == "Debian" && $2 == "Debian" { print $3; exit }'
}

# apt with lists, cache and sources of its own: the machine's are neither used nor changed.
make_apt() {
    local apt=$1 mirror
    mirror=$(debian_mirror)
    [ -n "$mirror" ] || { echo "peers.sh: apt knows no Debian mirror (run apt-get update)" >&2; return 1; }
    mkdir -p "$apt"/{lists/partial,cache/archives/partial}
    : >"$apt/status"
    cat >"$apt/sources.sources" <<SOURCES
Types: deb
URIs: $mirror
Suites: $suite
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
SOURCES
    cat >"$apt/apt.conf" <<CONF
Dir::Etc::sourcelist "$apt/sources.sources";
Dir::Etc::sourceparts "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
Dir::State::lists "$apt/lists";
Dir::State::status "$apt/status";
Dir::Cache "$apt/cache";
APT::Sandbox::User "root";
APT::Default-Release "$suite";
Acquire::Languages "none";
CONF
}

# Downloads crun and its libraries, and writes the loader and the library path into the binary.
# RPATH, not RUNPATH: it is also searched for the libraries of the libraries.
unpack_crun() {
    local apt=$peers/apt root=$peers/crun-root libraries loader
    make_apt "$apt"
    APT_CONFIG=$apt/apt.conf timeout 120 apt-get -qq update
    mkdir -p "$apt/packages" "$root"
    (cd "$apt/packages" && APT_CONFIG=$apt/apt.conf timeout 120 apt-get -qq download "${packages[@]}")
    for package in "$apt"/packages/*.deb; do dpkg-deb -x "$package" "$root"; done
    libraries=$(dirname "$(find "$root" -name 'libc.so.6' | head -n 1)")
    loader=$(find "$root" -name 'ld-linux*.so*' | head -n 1)
    cp "$root/usr/bin/crun" "$peers/crun.new"
    patchelf --set-interpreter "$loader" --force-rpath --set-rpath "$libraries" "$peers/crun.new"
    "$peers/crun.new" --version >/dev/null
    mv "$peers/crun.new" "$peers/crun"
}

mkdir -p "$peers"
if runc=$(command -v runc); then
    ln -sfn "$runc" "$peers/runc"
fi
[ -x "$peers/crun" ] || unpack_crun
# youki is in no Debian: it takes part where someone has built it.
for youki in "${YOUKI:-}" "$(command -v youki || true)" /opt/youki/bin/youki; do
    if [ -x "$youki" ]; then ln -sfn "$youki" "$peers/youki"; break; fi
done
for peer in runc crun youki; do
    [ -x "$peers/$peer" ] && echo "$peer: $("$peers/$peer" --version | sed -n 1p)"
done
exit 0
