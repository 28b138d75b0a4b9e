#!/usr/bin/env bash
# Without the overlay syncprov OpenLDAP's contextCSN need not move when something changes.
#
# Versions: slapd and ldap-utils 2.5.13+dfsg-5 (Debian 12).
# Behaviour: `slapadd -w` writes contextCSN into the suffix entry. A slapd without syncprov then serves that value for ever: a
#   modification gives the entry a newer entryCSN, and contextCSN stays. Without `-w` the suffix has no contextCSN at all.
#   So an unchanged contextCSN is no proof that nothing changed; with syncprov loaded it is one.
# Seen: entryCSN 2026…, contextCSN still that of the loaded LDIF, also after a restart.
set -euo pipefail
work=$(mktemp -d)
trap 'kill "$(cat "$work/pid" 2>/dev/null)" 2>/dev/null || true; rm -rf "$work"' EXIT
cd "$work"
apt-get -qq -o APT::Sandbox::User=root download slapd=2.5.13+dfsg-5 ldap-utils=2.5.13+dfsg-5 libldap-2.5-0=2.5.13+dfsg-5 libltdl7=2.4.7-7~deb12u1 libwrap0=7.6.q-32
for package in *.deb; do dpkg-deb -x "$package" files; done
export LD_LIBRARY_PATH=$work/files/usr/lib/x86_64-linux-gnu:$work/files/lib/x86_64-linux-gnu PATH=$work/files/usr/bin:$work/files/usr/sbin:$PATH
cat >slapd.conf <<CONF
include $work/files/etc/ldap/schema/core.schema
modulepath $work/files/usr/lib/ldap
moduleload back_mdb
pidfile $work/pid
database mdb
suffix dc=example
rootdn cn=admin,dc=example
rootpw admin-secret
directory $work/db
CONF
uri=ldap://127.0.0.1:24392
mkdir db
slapadd -w -f slapd.conf <<'LDIF'
dn: dc=example
objectClass: dcObject
objectClass: organization
o: Example
dc: example
entryCSN: 20200101000000.000000Z#000000#000#000000
LDIF
start() {
    slapd -f slapd.conf -h "$uri"
    for _ in $(seq 50); do ldapsearch -xLLL -H "$uri" -b '' -s base >/dev/null 2>&1 && return; sleep 0.1; done
    return 1
}
value() { ldapsearch -xLLL -H "$uri" -b dc=example -s base '(objectClass=*)' "$1" | sed -n "s/^$1: //p"; }
start
before=$(value contextCSN)
ldapmodify -x -H "$uri" -D cn=admin,dc=example -w admin-secret >/dev/null <<'LDIF'
dn: dc=example
changetype: modify
replace: description
description: changed
LDIF
echo "loaded:        contextCSN $before"
echo "after a write: contextCSN $(value contextCSN), entryCSN $(value entryCSN)"
[[ $before == 20200101* && $(value contextCSN) == "$before" && $(value entryCSN) > "$before" ]] || { echo "changed: contextCSN moved"; exit 1; }
kill "$(cat pid)" && while kill -0 "$(cat pid 2>/dev/null)" 2>/dev/null; do sleep 0.1; done
start
echo "restarted:     contextCSN $(value contextCSN)"
[[ $(value contextCSN) == "$before" ]] || { echo "changed: contextCSN moved at a restart"; exit 1; }
