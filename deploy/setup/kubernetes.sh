#!/usr/bin/env bash
# Builds what the tests need of Kubernetes, once: TOOLS/kubernetes-VERSION-BUILD/bin/{kube-apiserver,kube-controller-manager}.
# Nothing offers them ready-made for Debian, but Debian carries the source with everything it needs, signed. Six minutes
# of two idle cores, 34 MB of download and 3 GB of disk while it builds; a warm run costs milliseconds.
# If KUBEBUILDER_ASSETS names a folder that holds them (and etcd), nothing is built; tests/src/kubernetes.rs looks there too.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

version=1.20.2
# Counts what this script changes in the programs, so that an older build is not taken for this one.
build=2
programs="kube-apiserver kube-controller-manager"
tools=${TURNBACK_TOOLS:-${XDG_CACHE_HOME:-$HOME/.cache}/turnback/tools}
folder=$tools/kubernetes-$version-$build
# The tree of 2021 is built with the Go that Debian builds it with; a Go of today refuses some of its dependencies.
go=/usr/lib/go-1.19/bin

say() { echo "kubernetes.sh: $*" >&2; }

complete() { # FOLDER PROGRAM...
    local program bin=$1
    shift
    for program in "$@"; do [ -x "$bin/$program" ] || return 1; done
}

# shellcheck disable=SC2086 # one word a program
complete "$folder/bin" $programs && exit 0
if [ -n "${KUBEBUILDER_ASSETS:-}" ]; then
    # shellcheck disable=SC2086
    complete "$KUBEBUILDER_ASSETS" etcd $programs && exit 0
    say "$KUBEBUILDER_ASSETS (KUBEBUILDER_ASSETS) lacks one of: etcd $programs; building instead"
fi

mkdir -p "$tools"
# Of two runs at once the second one waits, looks again and finds it.
exec 9>"$folder.lock"
flock 9
# shellcheck disable=SC2086
complete "$folder/bin" $programs && exit 0

"$here/packages.sh" kubernetes
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
if [ ! -r "$keyring" ]; then
    say "$keyring is missing: this is not Debian. Put $programs $version at $folder/bin, or name a folder with them and" \
        "etcd in KUBEBUILDER_ASSETS"
    exit 1
fi

work=$folder.part
rm -rf "$work"
mkdir -p "$work/apt/lists/partial" "$work/apt/cache/archives/partial" "$work/source"
trap 'rm -rf "$work"' EXIT
log=$folder.log

# A source line of our own in a folder of our own: nothing stays behind in /etc or in apt's own lists.
echo "deb-src [signed-by=$keyring] http://deb.debian.org/debian bookworm main" >"$work/apt/sources.list"
private_apt() {
    apt-get -qq -o Dir::Etc::SourceList="$work/apt/sources.list" -o Dir::Etc::SourceParts=- \
        -o Dir::State::Lists="$work/apt/lists" -o Dir::Cache="$work/apt/cache" -o APT::Sandbox::User="$(id -un)" \
        -o Acquire::Retries=3 -o Acquire::Languages=none "$@" </dev/null
}

fetch() {
    private_apt update &&
        (cd "$work/source" && private_apt source --download-only kubernetes golang-github-modern-go-reflect2)
}

build() {
    cd "$work/source"
    dpkg-source --no-copy -x kubernetes_*"really$version"-*.dsc tree
    local root=$work/go/src/k8s.io/kubernetes
    mkdir -p "${root%/*}"
    mv tree "$root"
    cd "$root"
    # The copy of 2018 in the tree reads the insides of maps as Go had them before 1.18, and takes the server down with the
    # first custom resource; the next release of it, which Debian has, reads them as they are.
    dpkg-source --no-copy -x "$work/source"/golang-github-modern-go-reflect2_*.dsc "$work/reflect2"
    rm "vendor/github.com/modern-go/reflect2"/*.go "vendor/github.com/modern-go/reflect2"/*.s
    cp "$work/reflect2"/*.go "$work/reflect2"/*.s vendor/github.com/modern-go/reflect2/
    rm vendor/github.com/modern-go/reflect2/*_test.go 2>/dev/null || true
    # Without git the tree does not know its own version.
    printf '%s\n' "KUBE_GIT_COMMIT='debian'" "KUBE_GIT_TREE_STATE='archive'" "KUBE_GIT_VERSION='v$version'" \
        "KUBE_GIT_MAJOR='1'" "KUBE_GIT_MINOR='20'" >"$work/version"
    # Two jobs, as everywhere: more need more memory than small machines have.
    env -u GOROOT -u GOFLAGS -u GOBIN PATH="$go:$PATH" GOPATH="$work/go" GOCACHE="$work/go-cache" GOMAXPROCS=2 \
        GOTOOLCHAIN=local GO111MODULE=off CGO_ENABLED=0 KUBE_GIT_VERSION_FILE="$work/version" \
        make WHAT="cmd/kube-apiserver cmd/kube-controller-manager" GOFLAGS="-p=2" GOLDFLAGS="-s -w"
    mkdir "$work/bin"
    local program
    for program in $programs; do
        mv "_output/local/go/bin/$program" "$work/bin/$program"
        "$work/bin/$program" --version
    done
}

echo "building Kubernetes $version for the tests: about six minutes, once (its words: $log)"
if ! (fetch) >"$log" 2>&1; then
    say "fetching the source failed, one more attempt in 5 s"
    sleep 5
    (fetch) >>"$log" 2>&1 || { tail -n 20 "$log" >&2; say "could not fetch the source package (apt's words: $log)"; exit 1; }
fi
# In a process of its own: inside of a condition `set -e` would not hold.
if ! (export -f build; export work version programs go; bash -euo pipefail -c build) >>"$log" 2>&1; then
    tail -n 20 "$log" >&2
    say "could not build it (all of its words: $log)"
    exit 1
fi
# Complete at the first sight of it: the folder gets its name last.
rm -rf "$folder"
mkdir "$folder.new"
mv "$work/bin" "$folder.new/bin"
mv "$folder.new" "$folder"
rm -f "$log"
