#!/usr/bin/env bash
# A directory made with ldapjs leaves out attributes that were asked for by a name with a capital letter.
#
# Versions: ldapjs 3.0.7 (npm), ldap-utils 2.5.13+dfsg-5 (Debian 12).
# Behaviour: attribute names are case-insensitive (RFC 4512 § 2.5). ldapjs lowers the names of the entry and not those of the
#   request, so `displayName` in a search's list brings nothing and `displayname` brings it, with result 0 in both cases.
# Seen: `displayName: nothing`, `displayname: Jan Novak`.
set -euo pipefail
work=$(mktemp -d)
trap 'kill "${server:-}" 2>/dev/null || true; rm -rf "$work"' EXIT
cd "$work"
npm install --silent --no-audit --no-fund --prefix . ldapjs@3.0.7 >/dev/null 2>&1
apt-get -qq -o APT::Sandbox::User=root download ldap-utils=2.5.13+dfsg-5 libldap-2.5-0=2.5.13+dfsg-5
for package in *.deb; do dpkg-deb -x "$package" files; done
export LD_LIBRARY_PATH=$work/files/usr/lib/x86_64-linux-gnu PATH=$work/files/usr/bin:$PATH
cat >server.js <<'JS'
const ldap = require('ldapjs')
const server = ldap.createServer()
server.search('dc=example', (request, response) => {
  response.send({ dn: 'cn=jan,dc=example', attributes: { objectClass: ['person'], displayName: ['Jan Novak'] } })
  response.end()
})
server.listen(24396, '127.0.0.1')
JS
node server.js >server.log 2>&1 &
server=$!
search() { ldapsearch -xLLL -H ldap://127.0.0.1:24396 -b dc=example '(objectClass=*)' "$1" | sed -n 's/^display[nN]ame: //p'; }
for _ in $(seq 50); do [[ -n $(search displayname 2>/dev/null) ]] && break; sleep 0.1; done
upper=$(search displayName) lower=$(search displayname)
echo "displayName: ${upper:-nothing}"
echo "displayname: ${lower:-nothing}"
[[ -z $upper && $lower == 'Jan Novak' ]] || { echo "changed"; exit 1; }
