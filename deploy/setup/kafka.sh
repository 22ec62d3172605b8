#!/usr/bin/env bash
# Fetches the jars of an Apache Kafka broker, once: TOOLS/kafka-VERSION/*.jar. Names and checksums are in kafka.txt.
# 39 MB; a warm run costs milliseconds. tests/src/kafka.rs looks for them there.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
version=$(sed -n 's|.*/kafka_2.13-\([0-9.]*\)\.jar .*|\1|p' "$here/kafka.txt")
repository=${TURNBACK_MAVEN:-https://repo.maven.apache.org/maven2}
tools=${TURNBACK_TOOLS:-${XDG_CACHE_HOME:-$HOME/.cache}/turnback/tools}
folder=$tools/kafka-$version

[ -d "$folder" ] && exit 0
mkdir -p "$tools"
# Of two runs at once the second one waits, looks again and finds it.
exec 9>"$folder.lock"
flock 9
[ -d "$folder" ] && exit 0

echo "fetching Apache Kafka $version"
work=$folder.part
rm -rf "$work"
mkdir -p "$work"
while read -r path sum; do
    case "$path" in "" | "#"*) continue ;; esac
    jar=$work/${path##*/}
    # Four attempts in all: mirrors drop connections. Nothing larger than the largest jar, nothing that crawls for ever.
    if ! curl --fail --silent --show-error --location --proto '=https,http' --retry 3 --retry-all-errors --max-time 300 \
        --max-filesize 50000000 --output "$jar" "$repository/$path" </dev/null; then
        echo "kafka.sh: could not fetch $repository/$path (TURNBACK_MAVEN names another Maven repository)" >&2
        exit 1
    fi
    echo "$sum  $jar" | sha256sum --check --quiet - || { echo "kafka.sh: $path is not what kafka.txt says" >&2; exit 1; }
done <"$here/kafka.txt"
# Complete at the first sight of it: the folder gets its name last.
mv "$work" "$folder"
