#!/usr/bin/env bash
# Fetches pm2 with npm, once: TOOLS/pm2-VERSION/bin/pm2. Its version, and the checksums of it and of all that it wants, are in
# pm2/package-lock.json. 24 MB; a warm run costs milliseconds. tests/src/pm2.rs looks for it there.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
version=$(sed -n 's/.*"pm2": "\([0-9.]*\)".*/\1/p' "$here/pm2/package.json")
tools=${TURNBACK_TOOLS:-${XDG_CACHE_HOME:-$HOME/.cache}/turnback/tools}
folder=$tools/pm2-$version
# Longer than 76 small packages take on a slow line, shorter than anybody's patience.
seconds=600

say() { echo "pm2.sh: $*" >&2; }

[ -x "$folder/bin/pm2" ] && exit 0
mkdir -p "$tools"
# Of two runs at once the second one waits, looks again and finds it.
exec 9>"$folder.lock"
flock 9
[ -x "$folder/bin/pm2" ] && exit 0

# npm checks every package against the lock file. No scripts of packages are run, and nothing optional is wanted.
fetch() {
    timeout "$seconds" npm ci --prefix "$work" --ignore-scripts --omit=optional --no-audit --no-fund --cache "$work/cache" \
        </dev/null
}

echo "fetching pm2 $version"
work=$folder.part
log=$folder.log
rm -rf "$work"
mkdir -p "$work"
trap 'rm -rf "$work"' EXIT
cp "$here/pm2/package.json" "$here/pm2/package-lock.json" "$work"
if ! fetch >"$log" 2>&1; then
    say "npm failed, one more attempt in 5 s"
    sleep 5
    fetch >>"$log" 2>&1 || { tail -n 20 "$log" >&2; say "could not fetch pm2 $version (npm's words: $log)"; exit 1; }
fi
rm -rf "$work/cache"
mkdir "$work/bin"
ln -s ../node_modules/pm2/bin/pm2 "$work/bin/pm2"
# Complete at the first sight of it: the folder gets its name last.
rm -rf "$folder"
mv "$work" "$folder"
rm -f "$log"
