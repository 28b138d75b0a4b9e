#!/bin/bash
# Runs inside the container, as root. Prints what it checks; the first thing that does not hold ends it with 1.
set -u
unit=realmsync
socket=/run/realmsync/control.sock
canary=canary-bind-password-4711
step() { echo "== $*"; }
fail() {
    echo "FAILED: $*"
    systemctl status "$unit" --no-pager -l | tail -20
    journalctl -u "$unit" --no-pager -o short-precise | tail -60
    exit 1
}
# Waits until a command succeeds: `eventually SECONDS COMMAND…`.
eventually() {
    local left=$(($1 * 10))
    shift
    until "$@" >/dev/null 2>&1; do
        left=$((left - 1))
        [ "$left" -gt 0 ] || return 1
        sleep 0.1
    done
}
ask() { curl -sS --max-time 10 --unix-socket "$socket" "http://localhost$1"; }
ready() { ask /readyz | grep -q '"ready":true'; }
prop() { systemctl show "$unit" -p "$1" --value; }
said() { journalctl -u "$unit" --no-pager -o cat | grep -q -- "$1"; }
realm() {
    cat <<TOML

[[realm]]
id = "$1"
schedule = "30 2 * * *"

[realm.directory]
kind = "openldap"
servers = ["ldap://127.0.0.1:9"]
insecure-plaintext = true
bind-dn = "cn=sync,ou=services,dc=example,dc=org"
bind-password-credential = "example-bind"
base = ["ou=$1,dc=example,dc=org"]
connect-timeout = "2s"
TOML
}

step "the unit is hardened"
level=$(systemd-analyze security --offline=true "/etc/systemd/system/$unit.service" | sed -n 's/.*exposure level for .*: \([0-9.]*\) .*/\1/p')
echo "exposure $level"
awk -v level="$level" 'BEGIN { exit !(level != "" && level <= 1.5) }' || fail "exposure $level is more than 1.5"
systemd-analyze verify "/etc/systemd/system/$unit.service" 2>&1 | grep "$unit.service" | grep -v 'Command .* is not executable\|man ' && fail "systemd-analyze verify complains"

step "without the drop-in that passes its credential on it does not start, and says which one"
mkdir -p /etc/realmsync/secrets "/etc/systemd/system/$unit.service.d"
{ echo 'version = 1'; realm example.org; } >/etc/realmsync/realmsync.toml
systemctl daemon-reload
systemctl start "$unit" 2>/dev/null && fail "it started without its credential"
[ "$(prop ExecMainStatus)" = 78 ] || fail "it ended with $(prop ExecMainStatus), not 78"
journalctl --no-pager -u "$unit" | grep -q 'credential `example-bind` was not passed on' || fail "the credential is not named"
journalctl --no-pager -u "$unit" | grep -q 'realmsync.service.d/credentials.conf' || fail "the drop-in is not named"
systemctl reset-failed "$unit"

step "it starts with a credential and says that it is ready"
printf %s "$canary" >/etc/realmsync/secrets/example-bind
chmod 600 /etc/realmsync/secrets/example-bind
cat >"/etc/systemd/system/$unit.service.d/test.conf" <<'UNIT'
[Service]
LoadCredential=example-bind:/etc/realmsync/secrets/example-bind
WatchdogSec=4
RestartSec=1
UNIT
{ echo 'version = 1'; realm example.org; } >/etc/realmsync/realmsync.toml
systemctl daemon-reload
systemctl start "$unit" || fail "systemctl start"
[ "$(prop ActiveState)" = active ] || fail "not active"
eventually 5 ready || fail "not ready"
prop StatusText
[ "$(stat -c %a "$socket")" = 600 ] || fail "the control socket is $(stat -c %a "$socket")"
owner=$(ps -o uid= -p "$(prop MainPID)" | tr -d ' ')
[ "$owner" != 0 ] || fail "it runs as root"
[ "$(stat -c %u "$socket")" = "$owner" ] || fail "the socket is not the service's"
[ "$(stat -c %a /var/lib/private/realmsync/realmsync.db)" = 600 ] || fail "others may read the store"

step "commands of root beside it disturb nothing"
for _ in 1 2 3; do
    realmsync status >/tmp/status || fail "status: $(cat /tmp/status)"
    realmsync --json status >/tmp/status.json || fail "status --json"
    realmsync runs >/dev/null || fail "runs"
    realmsync users list >/dev/null || fail "users list"
    realmsync refused >/dev/null || fail "refused"
    realmsync outbox list >/dev/null || fail "outbox list"
done
grep -q '"realm":"example.org"' /tmp/status.json || fail "status does not know the realm"
realmsync check >/tmp/check 2>&1 || fail "check: $(cat /tmp/check)"
realmsync sync example.org >/tmp/sync 2>&1
code=$?
[ "$code" = 69 ] || fail "sync of a directory that is down gave $code: $(cat /tmp/sync)"
realmsync pause example.org || fail "pause"
realmsync --json status | grep -q '"paused":true' || fail "pause is not seen"
realmsync resume example.org || fail "resume"
realmsync backup /var/lib/realmsync/copy.db || fail "backup"
strangers=$(find /var/lib/private/realmsync ! -uid "$owner")
[ -z "$strangers" ] || fail "files of another owner: $strangers"
ready || fail "not ready after the commands"

step "the journal has fields, and no secret"
kill -USR1 "$(prop MainPID)"
eventually 10 sh -c 'journalctl REALMSYNC_REALM=example.org --no-pager -o cat | grep -q failed' || fail "no failed run in the journal under the realm's field"
journalctl --no-pager -o export | grep -q "$canary" && fail "the password is in the journal"
tr '\0' '\n' <"/proc/$(prop MainPID)/cmdline" | grep -q "$canary" && fail "the password is in the arguments"

step "a good reload"
pid=$(prop MainPID)
{ echo 'version = 1'; realm example.org; realm second.test; } >/etc/realmsync/realmsync.toml
systemctl reload "$unit" || fail "systemctl reload"
eventually 5 sh -c "curl -sS --unix-socket $socket http://localhost/metrics | grep -q 'realmsync_reloads_total{outcome=\"accepted\"} 1'" || fail "the reload was not accepted"
eventually 5 sh -c "systemctl show $unit -p StatusText | grep -q '2 realms'" || fail "STATUS does not say 2 realms: $(prop StatusText)"
[ "$(prop MainPID)" = "$pid" ] || fail "a reload is no restart"

step "a bad reload leaves the old configuration in force"
echo 'nonsense = true' >>/etc/realmsync/realmsync.toml
systemctl reload "$unit"
eventually 5 sh -c "curl -sS --unix-socket $socket http://localhost/metrics | grep -q 'realmsync_reloads_total{outcome=\"refused\"} 1'" || fail "the reload was not refused"
said "the new configuration is refused" || fail "the refusal is not in the journal"
[ "$(prop MainPID)" = "$pid" ] && ready || fail "it did not survive a bad reload"
for command in status runs "users list" refused "outbox list" "pause second.test" "resume second.test"; do
    # Split on purpose: a command and its words.
    realmsync $command >/tmp/faulty 2>&1 || fail "$command by a faulty file: $(cat /tmp/faulty)"
    grep -q 'is faulty' /tmp/faulty || fail "$command does not say that the file is faulty: $(cat /tmp/faulty)"
done
ask /metrics | grep -q 'realmsync_users{realm="second.test"' || fail "the old configuration is gone"
{ echo 'version = 1'; realm example.org; realm second.test; } >/etc/realmsync/realmsync.toml
systemctl reload "$unit"
eventually 5 sh -c "systemctl show $unit -p StatusText | grep -vq refused" || fail "the refusal stays"

step "killed with -9 it comes back"
kill -9 "$pid"
eventually 10 sh -c "[ \"\$(systemctl show $unit -p MainPID --value)\" != $pid ] && systemctl is-active $unit" || fail "it did not come back"
eventually 10 ready || fail "not ready after kill -9"

step "a process that does not move is killed by the watchdog, and comes back"
pid=$(prop MainPID)
kill -STOP "$pid"
eventually 15 sh -c "[ \"\$(systemctl show $unit -p MainPID --value)\" != $pid ] && systemctl is-active $unit" || fail "the watchdog did not bite"
journalctl -u "$unit" --no-pager -o cat | grep -qi 'watchdog timeout' || fail "not by the watchdog"
eventually 10 ready || fail "not ready after the watchdog"
[ "$(prop NRestarts)" = 2 ] || fail "$(prop NRestarts) restarts"

step "it lives on when fed"
pid=$(prop MainPID)
sleep 9
[ "$(prop MainPID)" = "$pid" ] || fail "the watchdog is not fed"

step "it stops within five seconds, with 0"
begin=$(date +%s%N)
systemctl stop "$unit" || fail "systemctl stop"
took=$((($(date +%s%N) - begin) / 1000000))
echo "stopped in $took ms"
[ "$took" -lt 5500 ] || fail "a stop took $took ms"
[ "$(prop Result)" = success ] && [ "$(prop ExecMainStatus)" = 0 ] || fail "ended with $(prop Result) $(prop ExecMainStatus)"
[ ! -e "$socket" ] || fail "the socket is still there"

step "commands of root while it is down leave nothing of root's behind"
realmsync status >/tmp/status || fail "status: $(cat /tmp/status)"
realmsync runs >/tmp/runs || fail "runs: $(cat /tmp/runs)"
grep -q failed /tmp/runs || fail "the failed runs are not there"
realmsync pause second.test || fail "pause"
strangers=$(find /var/lib/private/realmsync ! -uid "$owner")
[ -z "$strangers" ] || fail "files of another owner: $strangers"
systemctl start "$unit" || fail "it does not start after them"
eventually 5 ready || fail "not ready after them"
realmsync --json status | grep '"second.test"' | grep -q '"paused":true' || fail "the pause is lost"
systemctl stop "$unit"

step "a configuration that is wrong from the start is not tried again and again"
echo 'nonsense = true' >>/etc/realmsync/realmsync.toml
systemctl start "$unit" 2>/dev/null && fail "it started with nonsense"
sleep 2
[ "$(prop ExecMainStatus)" = 78 ] || fail "exit status $(prop ExecMainStatus)"
[ "$(prop ActiveState)" = failed ] || fail "it is $(prop ActiveState)"

journalctl --no-pager -o export | grep -q "$canary" && fail "the password is in the journal"
echo "all holds"
