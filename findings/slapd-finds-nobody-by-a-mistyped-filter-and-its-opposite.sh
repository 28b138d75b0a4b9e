#!/usr/bin/env bash
# OpenLDAP finds nobody by a filter with a mistyped attribute, and nobody by its opposite either.
#
# Versions: slapd and ldap-utils 2.5.13+dfsg-5 (Debian 12).
# Behaviour: an attribute that the schema does not have makes `(emplyeeType=admin)` neither true nor false, and so `(!(emplyeeType=admin))` too
#   (RFC 4511 § 4.5.1.7). Both searches end with result 0 and no entry. Whoever protects or exempts people by such a filter, and takes "not
#   found" for "does not match", protects or exempts nobody, without an error. Only an entry that one of the two finds is known to match or not.
# Seen: 0 entries for either with the mistyped name, 1 and 0 for the right one, result 0 each time.
set -euo pipefail
work=$(mktemp -d)
trap 'kill "$(cat "$work/pid" 2>/dev/null)" 2>/dev/null || true; rm -rf "$work"' EXIT
cd "$work"
apt-get -qq -o APT::Sandbox::User=root download slapd=2.5.13+dfsg-5 ldap-utils=2.5.13+dfsg-5 libldap-2.5-0=2.5.13+dfsg-5 libltdl7=2.4.7-7~deb12u1 libwrap0=7.6.q-32
for package in *.deb; do dpkg-deb -x "$package" files; done
export LD_LIBRARY_PATH=$work/files/usr/lib/x86_64-linux-gnu:$work/files/lib/x86_64-linux-gnu PATH=$work/files/usr/bin:$work/files/usr/sbin:$PATH
mkdir db
cat >slapd.conf <<CONF
include $work/files/etc/ldap/schema/core.schema
include $work/files/etc/ldap/schema/cosine.schema
include $work/files/etc/ldap/schema/inetorgperson.schema
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
slapd -f slapd.conf -h "$uri"
for _ in $(seq 50); do ldapsearch -xLLL -H "$uri" -b '' -s base >/dev/null 2>&1 && break; sleep 0.1; done
ldapadd -x -H "$uri" -D cn=admin,dc=example -w admin-secret >/dev/null <<'LDIF'
dn: dc=example
objectClass: dcObject
objectClass: organization
o: Example
dc: example

dn: cn=jan,dc=example
objectClass: inetOrgPerson
cn: jan
sn: Novak
employeeType: admin
LDIF
found() { ldapsearch -xLLL -H "$uri" -b dc=example "(&(objectClass=inetOrgPerson)$1)" 1.1 | grep -c '^dn:' || true; }
while read -r filter wanted; do
    came=$(found "$filter")
    echo "$filter: $came"
    [[ $came == "$wanted" ]] || { echo "changed: $filter finds $came"; exit 1; }
done <<'FILTERS'
(emplyeeType=admin) 0
(!(emplyeeType=admin)) 0
(employeeType=admin) 1
(!(employeeType=admin)) 0
FILTERS
