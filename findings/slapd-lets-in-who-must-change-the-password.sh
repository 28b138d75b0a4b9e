#!/usr/bin/env bash
# An account that must change its password binds with success; only its searches are refused, and only a control that was asked for says why.
#
# Versions: slapd and ldap-utils 2.5.13+dfsg-5 (Debian 12), overlay ppolicy.
# Behaviour: with pwdMustChange and pwdReset the bind answers result 0. Who sent the password policy request control with it is told
#   changeAfterReset (2). Without the control nothing in the answer differs. The root DSE can still be read; each search below the
#   suffix then ends with insufficientAccess (50), as if an access rule were wrong.
# Seen: `bind: 0`, `root DSE: 0`, `people: 50 … Operations are restricted to bind/unbind/abandon/StartTLS/modify password`.
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
moduleload ppolicy
pidfile $work/pid
database mdb
suffix dc=example
rootdn cn=admin,dc=example
rootpw admin-secret
directory $work/db
access to attrs=userPassword by self write by anonymous auth by * none
access to * by * read
overlay ppolicy
ppolicy_default cn=policy,dc=example
CONF
mkdir db
uri=ldap://127.0.0.1:24395
slapadd -f slapd.conf <<'LDIF'
dn: dc=example
objectClass: dcObject
objectClass: organization
o: Example
dc: example

dn: cn=policy,dc=example
objectClass: applicationProcess
objectClass: pwdPolicy
cn: policy
pwdAttribute: userPassword
pwdMustChange: TRUE

dn: cn=sync,dc=example
objectClass: person
cn: sync
sn: sync
userPassword: sync-secret
pwdReset: TRUE
LDIF
slapd -f slapd.conf -h "$uri"
for _ in $(seq 50); do ldapsearch -xLLL -H "$uri" -b '' -s base >/dev/null 2>&1 && break; sleep 0.1; done
as=(-x -H "$uri" -D cn=sync,dc=example -w sync-secret)
status=0
ldapwhoami "${as[@]}" >plain 2>&1 || status=$?
ldapwhoami "${as[@]}" -e ppolicy >told 2>&1 || true
echo "bind:   $status"
grep 'Password must be changed' told || { echo "changed: the control"; cat told; exit 1; }
! grep -q 'Password must be changed' plain || { echo "changed: said without the control"; exit 1; }
ldapsearch "${as[@]}" -b '' -s base >/dev/null
echo "root DSE: 0"
search=0
ldapsearch "${as[@]}" -b dc=example >refused 2>&1 || search=$?
echo "people: $search $(grep -o 'Operations are restricted.*' refused || true)"
[[ $search == 50 ]] && grep -q 'Operations are restricted' refused || { echo "changed: the search"; cat refused; exit 1; }
