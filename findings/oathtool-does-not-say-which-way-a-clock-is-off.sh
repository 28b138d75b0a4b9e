#!/usr/bin/env bash
# `oathtool --totp --window` prints by how many steps a code is off, but not in which direction.
#
# Versions: oathtool 2.6.7-3.1+deb12u1 and liboath0 of the same (Debian 12).
# Behaviour: for TOTP the window lies on both sides of the time. A code of two steps ago and one of two steps ahead print the same `2`
#   and end alike, so the output cannot tell a slow clock from a fast one, nor be used to correct it. (The library has a call of its own
#   that gives the sign.)
# Seen: `two steps ago: 2`, `now: 0`, `two steps ahead: 2`.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
apt-get -qq -o APT::Sandbox::User=root download oathtool=2.6.7-3.1+deb12u1 liboath0=2.6.7-3.1+deb12u1
for package in *.deb; do dpkg-deb -x "$package" files; done
export LD_LIBRARY_PATH=$work/files/usr/lib/x86_64-linux-gnu
seed=3132333435363738393031323334353637383930
code() { files/usr/bin/oathtool --totp --now "$1" "$seed"; }
off() { files/usr/bin/oathtool --totp --window 5 --now '2009-02-13 23:31:30 UTC' "$seed" "$1"; }
ago=$(off "$(code '2009-02-13 23:30:30 UTC')")
now=$(off "$(code '2009-02-13 23:31:30 UTC')")
ahead=$(off "$(code '2009-02-13 23:32:30 UTC')")
printf 'two steps ago: %s\nnow: %s\ntwo steps ahead: %s\n' "$ago" "$now" "$ahead"
[[ $ago == 2 && $now == 0 && $ahead == 2 ]] || { echo "changed"; exit 1; }
