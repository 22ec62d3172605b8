#!/bin/sh
# The file system of the image: root.sh PROGRAM FOLDER makes FOLDER/root, to be copied as it is, and FOLDER/state, which
# belongs to the agent. Run where PROGRAM was built: its libraries and the certificates are taken from there.
set -eu
program=$1 folder=$2
root=$folder/root
certificates=/etc/ssl/certs/ca-certificates.crt

if [ ! -s "$certificates" ]; then
    # An image without them would start, and fail at the first https address.
    echo "root.sh: $certificates is missing: install the package ca-certificates" >&2
    exit 1
fi
mkdir -p "$root/usr/bin" "$root/etc/turnback" "$root/etc/ssl/certs" "$folder/state/turnback"
cp "$program" "$root/usr/bin/turnback"
cp "$certificates" "$root/etc/ssl/certs/"
chmod 755 "$root/usr/bin/turnback"
chmod 700 "$folder/state/turnback"
# Since version 2.34 glibc looks up names without further libraries.
ldd "$program" | awk '$2 == "=>" && $3 ~ "^/" { print $3 } $1 ~ "^/" { print $1 }' | while read -r library; do
    mkdir -p "$root$(dirname "$library")"
    cp -L "$library" "$root$library"
done
printf 'root:x:0:0:root:/nonexistent:/nonexistent\nturnback:x:65532:65532:turnback:/var/lib/turnback:/nonexistent\n' >"$root/etc/passwd"
printf 'root:x:0:\nturnback:x:65532:\n' >"$root/etc/group"
printf 'hosts: files dns\n' >"$root/etc/nsswitch.conf"
# The clones of `git` and the files of libraries; on a read-only root a tmpfs comes here.
mkdir -p "$root/tmp"
chmod 1777 "$root/tmp"
