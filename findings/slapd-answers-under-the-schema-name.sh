#!/usr/bin/env bash
# OpenLDAP answers under the schema's own name, however an attribute was asked for.
#
# Versions: slapd and ldap-utils 2.5.13+dfsg-5 (Debian 12).
# Behaviour: a search for `mobileTelephoneNumber`, for `0.9.2342.19200300.100.1.41` or for `MOBILE` returns the attribute as `mobile`.
#   A client that looks in the answer for the name that it asked for finds nothing, with result 0.
#   RFC 4511 § 4.1.8 lets a server choose: 389 Directory Server answers with the name that was asked for.
# Seen: `mobile: +421905123456` for each of the three.
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
uri=ldap://127.0.0.1:24391
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
mobile: +421905123456
LDIF
for asked in mobileTelephoneNumber 0.9.2342.19200300.100.1.41 MOBILE; do
    came=$(ldapsearch -xLLL -H "$uri" -b cn=jan,dc=example -s base '(objectClass=*)' "$asked" | sed -n 2p)
    echo "asked for $asked: $came"
    [[ $came == 'mobile: +421905123456' ]] || { echo "changed: $asked is answered otherwise"; exit 1; }
done
