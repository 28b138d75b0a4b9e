#!/usr/bin/env bash
# `CREATE TABLE IF NOT EXISTS` of a table that is there still needs the right to create in PostgreSQL.
#
# Versions: PostgreSQL 15.20-0+deb12u1 (Debian 12).
# Behaviour: the right on the schema is checked before it is looked whether the table is there. A role with every right on a table
#   and none to create in its schema, as PostgreSQL 15 and newer give by default, gets "permission denied for schema public" for a
#   statement that has nothing to do. Migration tools that begin with such a statement for their own table (sqlx's does) therefore
#   fail in a database whose schema is current. SQLite answers success: it knows no rights.
# Seen: `owner: 0, NOTICE … already exists, skipping`; `role: permission denied for schema public`, while its INSERT works.
set -euo pipefail
work=$(mktemp -d)
chmod 711 "$work"
trap 'kill "$(head -n 1 "$work/data/postmaster.pid" 2>/dev/null)" 2>/dev/null || true; sleep 0.5; rm -rf "$work"' EXIT
cd "$work"
apt-get -qq -o APT::Sandbox::User=root download postgresql-15=15.20-0+deb12u1 postgresql-client-15=15.20-0+deb12u1 libpq5=15.20-0+deb12u1
for package in *.deb; do dpkg-deb -x "$package" files; done
chmod -R a+rX files
bin=$work/files/usr/lib/postgresql/15/bin
export LD_LIBRARY_PATH=$work/files/usr/lib/x86_64-linux-gnu
# PostgreSQL does not run as root.
as() { if [[ $(id -u) == 0 ]]; then setpriv --reuid 65534 --regid 65534 --clear-groups env LD_LIBRARY_PATH="$LD_LIBRARY_PATH" "$@"; else "$@"; fi; }
mkdir data sockets
[[ $(id -u) != 0 ]] || chown 65534:65534 data sockets
as "$bin/initdb" -D "$work/data" -U owner -A trust --no-sync -L "$work/files/usr/share/postgresql/15" >/dev/null
as "$bin/postgres" -D "$work/data" -k "$work/sockets" -c listen_addresses= -p 24397 >log 2>&1 &
sql() { as "$bin/psql" -Xq -h "$work/sockets" -p 24397 -d postgres -U "$1" -c "$2" 2>&1; }
for _ in $(seq 100); do sql owner 'SELECT 1' >/dev/null 2>&1 && break; sleep 0.1; done
sql owner 'CREATE TABLE kept (n int); CREATE ROLE role LOGIN; GRANT ALL ON kept TO role'
owner=$(sql owner 'CREATE TABLE IF NOT EXISTS kept (n int)')
role=$(sql role 'CREATE TABLE IF NOT EXISTS kept (n int)' || true)
echo "owner: $owner"
echo "role:  $role"
sql role 'INSERT INTO kept VALUES (1)'
[[ $owner == *'already exists, skipping'* && $role == *'permission denied for schema public'* ]] || { echo "changed"; exit 1; }
