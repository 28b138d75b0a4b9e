#!/usr/bin/env bash
# libphonenumber reads letters within a number as the digits of a keypad, and drops them before it: both give valid numbers.
#
# Versions: phonenumbers 9.0.19 (PyPI).
# Behaviour: `parse` takes vanity numbers, and not only where people write them: a name that was typed into the field becomes digits,
#   and a letter O in front, typed for a zero, goes. `is_valid_number` says yes to both, so that whoever checks no more than that sends
#   codes to somebody else, or takes a slip of the keyboard for a good number.
# Seen: `0905 ABC 456: +421905222456 valid`, `O905 123 456: +421905123456 valid`.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet phonenumbers==9.0.19
seen=$("$work/venv/bin/python" - <<'PY'
import phonenumbers as p
for typed in ('0905 ABC 456', 'O905 123 456'):
    number = p.parse(typed, 'SK')
    valid = 'valid' if p.is_valid_number(number) else 'not valid'
    print(f'{typed}: {p.format_number(number, p.PhoneNumberFormat.E164)} {valid}')
PY
)
echo "$seen"
[[ $seen == $'0905 ABC 456: +421905222456 valid\nO905 123 456: +421905123456 valid' ]] || { echo "changed"; exit 1; }
