#!/usr/bin/env bash
# OpenLDAP's proxy (back-ldap) answers a paged search without the paging control once the page is as large as its own size limit.
#
# Versions: slapd and ldap-utils 2.5.13+dfsg-5 (Debian 12).
# Behaviour: the root DSE of the proxy lists 1.2.840.113556.1.4.319. A critical paged search with pages of 499 comes back with the
#   control; with pages of 500 (the default sizelimit) and more it comes back with success, every entry and no control. RFC 2696 § 3
#   lets a server ignore the control when the page is at least its size limit. A client that wants the control as its proof of
#   completeness fails with a page of 500 or 1000, though nothing in the root DSE says so, and works with 400.
# Seen: `499: pagedresults`, `500: none`, both with result 0 and 20 entries.
set -euo pipefail
work=$(mktemp -d)
trap 'kill $(cat "$work"/pid-* 2>/dev/null) 2>/dev/null || true; rm -rf "$work"' EXIT
cd "$work"
apt-get -qq -o APT::Sandbox::User=root download slapd=2.5.13+dfsg-5 ldap-utils=2.5.13+dfsg-5 libldap-2.5-0=2.5.13+dfsg-5 libltdl7=2.4.7-7~deb12u1 libwrap0=7.6.q-32
for package in *.deb; do dpkg-deb -x "$package" files; done
export LD_LIBRARY_PATH=$work/files/usr/lib/x86_64-linux-gnu:$work/files/lib/x86_64-linux-gnu PATH=$work/files/usr/bin:$work/files/usr/sbin:$PATH
data=ldap://127.0.0.1:24393 proxy=ldap://127.0.0.1:24394
mkdir db
common="include $work/files/etc/ldap/schema/core.schema
modulepath $work/files/usr/lib/ldap"
cat >data.conf <<CONF
$common
moduleload back_mdb
pidfile $work/pid-data
database mdb
suffix dc=example
rootdn cn=admin,dc=example
rootpw admin-secret
directory $work/db
CONF
cat >proxy.conf <<CONF
$common
moduleload back_ldap
pidfile $work/pid-proxy
database ldap
suffix dc=example
uri $data
rebind-as-user yes
CONF
{
    printf 'dn: dc=example\nobjectClass: dcObject\nobjectClass: organization\no: Example\ndc: example\n'
    for i in $(seq 20); do printf '\ndn: cn=p%s,dc=example\nobjectClass: person\ncn: p%s\nsn: x\n' "$i" "$i"; done
} | slapadd -f data.conf
slapd -f data.conf -h "$data"
slapd -f proxy.conf -h "$proxy"
for uri in "$data" "$proxy"; do
    for _ in $(seq 50); do ldapsearch -xLLL -H "$uri" -b '' -s base >/dev/null 2>&1 && break; sleep 0.1; done
done
ldapsearch -xLLL -H "$proxy" -b '' -s base supportedControl | grep -q 1.2.840.113556.1.4.319 || { echo "changed: the proxy does not offer paging"; exit 1; }
for size in 499 500; do
    answer=$(ldapsearch -x -H "$proxy" -b dc=example -E "!pr=$size/noprompt" '(objectClass=person)' cn)
    control=$(grep -q '^pagedresults:' <<<"$answer" && echo pagedresults || echo none)
    echo "$size: $control, $(grep -c '^dn:' <<<"$answer") entries, $(grep '^result:' <<<"$answer")"
    [[ $control == "$([[ $size == 499 ]] && echo pagedresults || echo none)" ]] || { echo "changed: pages of $size"; exit 1; }
    [[ $(grep -c '^dn:' <<<"$answer") == 20 ]] || { echo "changed: not everybody came"; exit 1; }
done
