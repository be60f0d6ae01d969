#!/usr/bin/env bash
# Makes a build image from the Rust toolchain of this machine, for builds without access to an image registry.
# Needs Debian or a similar system: the C linker and its dependencies come from packages.
#
#   docker/toolchain-image.sh                      # makes the image loadx-toolchain
#   docker-compose build --build-arg BUILD_IMAGE=loadx-toolchain
#
# The image also holds the crates that Cargo.lock names, so that the build needs no network.
set -euo pipefail
cd "$(dirname "$0")/.."
image=${1:-loadx-toolchain}

for tool in docker cargo rustc dpkg apt-cache; do
    command -v "$tool" >/dev/null || { echo "toolchain-image.sh needs $tool" >&2; exit 2; }
done

sysroot=$(rustc --print sysroot)
cargo_home=${CARGO_HOME:-$HOME/.cargo}
cargo fetch --locked --quiet

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Lists the files of the packages for compiling and linking, with their dependencies.
packages() {
    apt-cache depends --recurse --installed --no-recommends --no-suggests --no-conflicts --no-breaks \
        --no-replaces --no-enhances bash coreutils dash findutils gcc grep libc6-dev sed | grep '^[a-z0-9]' | sed 's/:.*//' | sort -u
}
for package in $(packages); do
    dpkg -L "$package" 2>/dev/null || true
done | grep -vE '^/usr/share/(doc|man|locale|info|lintian)/|^/\.$' | sort -u >"$work/candidates"
# Leaves out directories, because tar would add all files in them; keeps symbolic links to directories.
while read -r path; do
    if [ ! -d "$path" ] || [ -L "$path" ]; then [ -e "$path" ] && echo "${path#/}"; fi
done <"$work/candidates" >"$work/files"
# Maintainer scripts make these files, so no package lists them.
for path in /bin/sh /usr/bin/cc /etc/alternatives/cc /etc/ld.so.cache /etc/ssl/certs/ca-certificates.crt; do
    [ -e "$path" ] && echo "${path#/}"
done >>"$work/files"

mkdir -p "$work/root/usr/local/rust" "$work/root/usr/local/cargo/registry" "$work/root/tmp"
# Where /bin is a link to /usr/bin, the image needs the link before files in /bin are added.
for link in bin sbin lib lib64; do
    if [ -L "/$link" ]; then mkdir -p "$work/root/usr/$link"; cp -P "/$link" "$work/root/$link"; fi
done
tar -C / -cf - --files-from "$work/files" | tar -C "$work/root" -xf -
(cd "$sysroot" && tar --exclude='rustlib/src' -cf - bin lib) | tar -C "$work/root/usr/local/rust" -xf -
for part in index cache; do
    cp -r "$cargo_home/registry/$part" "$work/root/usr/local/cargo/registry/"
done

tar -C "$work/root" -cf - . | docker import \
    --change 'ENV PATH=/usr/local/rust/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin' \
    --change 'ENV CARGO_HOME=/usr/local/cargo' \
    --change 'ENV CARGO_NET_OFFLINE=true' \
    - "$image" >/dev/null
echo "image $image: $(docker image inspect --format '{{.Size}}' "$image" | awk '{printf "%.0f MB", $1/1e6}')"
