#!/usr/bin/env bash
# Try the README on a bare Debian, as root: bare_machine.sh RELEASE [MIRROR].
# debootstrap makes the system (bookworm, trixie) in .cache/bare-RELEASE; it
# gets the packages that the README names, then set-up, doctor, two epochs.
set -euo pipefail
if [ $# -lt 1 ]; then
    echo "usage: $0 RELEASE [MIRROR]" >&2
    exit 2
fi
cd "$(dirname "$0")/.."
system=$PWD/.cache/bare-$1
packages=$(sed -n 's/.*`apt-get install \(make [^`]*\)`.*/\1/p' README.md)
mkdir -p .cache
[ -e "$system/pvt_mm" ] || debootstrap --variant=minbase "$1" "$system" ${2:+"$2"}
mkdir -p "$system/pvt_mm"
git archive HEAD | tar -x -C "$system/pvt_mm"
cp /etc/resolv.conf /etc/hosts "$system/etc"
if [ -n "${PIP_CERT:-}" ]; then # of a network with certificates of its own
    cp "$PIP_CERT" "$system/etc/pip.pem"
fi
trap 'umount "$system/proc" "$system/dev/shm"' EXIT
mount -t proc proc "$system/proc"
mkdir -p "$system/dev/shm"
mount -t tmpfs tmpfs "$system/dev/shm"
inside() {
    chroot "$system" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root \
        DEBIAN_FRONTEND=noninteractive ${PIP_CERT:+PIP_CERT=/etc/pip.pem} "$@"
}
inside apt-get update -qq
# the list is split on purpose
# shellcheck disable=SC2086
inside apt-get install -qq -y -o Dpkg::Use-Pty=0 --no-install-recommends $packages >/dev/null
inside make -C /pvt_mm setup
inside make -C /pvt_mm doctor few-epochs
