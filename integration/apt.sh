# Sourced by scripts that want packages or sources of another Debian than the machine's, by an apt that neither
# uses nor changes the machine's own state.

# private_apt DIRECTORY TYPE SUITE: sets APT_CONFIG to an apt with lists, cache and sources of its own below the
# directory; TYPE is deb or deb-src. The mirror is the one that this machine uses for Debian itself, by apt's own
# account of its sources.
private_apt() {
    local apt=$1 type=$2 suite=$3 mirror
    mirror=$(apt-get indextargets --format '$(ORIGIN)|$(LABEL)|$(REPO_URI)' 'Identifier: Packages' |
        awk -F'|' '$1 == "Debian" && $2 == "Debian" { print $3; exit }')
    [ -n "$mirror" ] || { echo "${0##*/}: apt knows no Debian mirror (run apt-get update)" >&2; return 1; }
    mkdir -p "$apt"/{lists/partial,cache/archives/partial}
    : >"$apt/status"
    cat >"$apt/sources.sources" <<SOURCES
Types: $type
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
    export APT_CONFIG=$apt/apt.conf
}
