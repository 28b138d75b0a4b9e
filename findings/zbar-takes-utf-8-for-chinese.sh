#!/usr/bin/env bash
# zbar gives the text of some QR codes in another writing system.
#
# Versions: libzbar0 0.23.92-7+deb12u1 (Debian 12), pyzbar 0.1.9, qrcode 8.2 and pillow 11.3.0 (PyPI).
# Behaviour: a QR code of bytes does not say how they are encoded. Most programs write UTF-8, and zbar guesses by the bytes: a word with a
#   single accented letter is taken for Chinese, and the letter after it is swallowed. A label of an OTP application survives when it is
#   percent-encoded, as the key URI format wants it.
# Seen: `Müller: M羹ller`, `M%C3%BCller: M%C3%BCller`.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
apt-get -qq -o APT::Sandbox::User=root download libzbar0=0.23.92-7+deb12u1 libv4l-0 libv4lconvert0 libjpeg62-turbo libdbus-1-3 \
    libx11-6 libxcb1 libxau6 libxdmcp6 libbsd0 libmd0 libsystemd0
for package in *.deb; do dpkg-deb -x "$package" files; done
ln -s libzbar.so.0 files/usr/lib/x86_64-linux-gnu/libzbar.so
export LD_LIBRARY_PATH=$work/files/usr/lib/x86_64-linux-gnu:$work/files/lib/x86_64-linux-gnu
python3 -m venv venv
venv/bin/pip install --quiet pyzbar==0.1.9 qrcode==8.2 pillow==11.3.0
seen=$(venv/bin/python - <<'PY'
import qrcode
from pyzbar.pyzbar import decode
for text in ('Müller', 'M%C3%BCller'):
    image = qrcode.make(text.encode('utf-8')).get_image()
    print(f'{text}:', decode(image)[0].data.decode('utf-8'))
assert any('/files/' in line for line in open('/proc/self/maps') if 'libzbar' in line), 'another libzbar'
PY
)
echo "$seen"
[[ $seen == $'Müller: M羹ller\nM%C3%BCller: M%C3%BCller' ]] || { echo "changed"; exit 1; }
