# Shared by the lab's scripts; sourced, not run.
LAB=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
PATH=$PATH:/usr/sbin:/sbin
PY=/usr/bin/python3                         # Debian's own: the one that sees Debian's python3-* packages
[[ -x $PY ]] || PY=python3
export LC_ALL=C.UTF-8
umask 022

die() { echo "${0##*/}: $*" >&2; exit 1; }
need() { local c; for c in "$@"; do command -v "$c" >/dev/null || die "no '$c' here: run tests/lab/install first"; done; }
default_dir() { echo "${TMPDIR:-/tmp}/lab-$1"; }
# An absolute path for a file or folder that need not exist.
absolute() { case $1 in /*) echo "${1%/}" ;; *) echo "$PWD/${1%/}" ;; esac; }

# Free TCP port on an address: "0" as a port argument means "pick one".
free_port() {
  "$PY" -c 'import socket,sys
s=socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1); s.bind((sys.argv[1], 0)); print(s.getsockname()[1])' "${1:-127.0.0.1}"
}
port_open() { (exec 3<>"/dev/tcp/$1/$2") 2>/dev/null; }
port_must_be_free() { ! port_open "$1" "$2" || die "port $1:$2 is taken"; }

# alive PIDFILE NEEDLE: the recorded process runs and its command line holds NEEDLE (so a reused pid is not ours).
alive() {
  local pid
  [[ -s $1 ]] || return 1
  pid=$(head -n1 "$1" | tr -dc 0-9)
  [[ -n $pid && -r /proc/$pid/cmdline ]] || return 1
  tr '\0' ' ' <"/proc/$pid/cmdline" | grep -qF -- "$2"
}
# A process that ended but that nobody has waited for (PID 1 of a container may not) counts as gone.
gone() { [[ ! -r /proc/$1/status ]] || grep -q '^State:[[:space:]]*[ZX]' "/proc/$1/status" 2>/dev/null; }
# wait_gone PID SECONDS
wait_gone() {
  local end=$((SECONDS + $2))
  until gone "$1"; do ((SECONDS < end)) || return 1; sleep 0.05; done
}
# stop_pid PID [SIGNAL] [SECONDS]: asks, waits, then insists.
stop_pid() {
  kill -"${2:-TERM}" "$1" 2>/dev/null || return 0
  wait_gone "$1" "${3:-60}" || { kill -KILL "$1" 2>/dev/null || true; wait_gone "$1" 10 || true; }
}
# wait_for SECONDS COMMAND...: until the command succeeds.
wait_for() {
  local end=$((SECONDS + $1)); shift
  until "$@" >/dev/null 2>&1; do ((SECONDS < end)) || return 1; sleep 0.1; done
}

# make_tls DIR KIND [HOST]: DIR/ca.pem and DIR/server.{pem,key}. KIND good|expired|wronghost.
make_tls() {
  local dir=$1 kind=${2:-good} host=${3:-localhost} from to san
  need openssl
  # libldap checks "localhost" against the machine's own name, so that is in there too.
  san="DNS:$host,DNS:localhost,DNS:$(uname -n),DNS:$(hostname -f 2>/dev/null || uname -n),IP:127.0.0.1,IP:0:0:0:0:0:0:0:1${4:+,IP:$4}"
  from=$(date -u -d '-2 days' +%y%m%d%H%M%SZ) to=$(date -u -d '+3650 days' +%y%m%d%H%M%SZ)
  case $kind in
    good) ;;
    expired) to=$(date -u -d '-1 day' +%y%m%d%H%M%SZ) ;;
    wronghost) host=other.example.net san=DNS:other.example.net ;;
    *) die "unknown kind of certificate '$kind'" ;;
  esac
  mkdir -p "$dir"; chmod 755 "$dir"
  if [[ ! -s $dir/ca.pem ]]; then
    openssl req -x509 -newkey rsa:2048 -nodes -sha256 -days 3650 -subj '/O=Lab/CN=Lab test CA' \
      -addext 'basicConstraints=critical,CA:TRUE' -addext 'keyUsage=critical,keyCertSign,cRLSign' \
      -keyout "$dir/ca.key" -out "$dir/ca.pem" 2>/dev/null
  fi
  openssl req -newkey rsa:2048 -nodes -sha256 -subj "/O=Lab/CN=$host" \
    -keyout "$dir/server.key" -out "$dir/server.csr" 2>/dev/null
  : >"$dir/index.txt"
  cat >"$dir/ca.cnf" <<CNF
[ca]
default_ca = lab
[lab]
database = $dir/index.txt
new_certs_dir = $dir
certificate = $dir/ca.pem
private_key = $dir/ca.key
rand_serial = yes
default_md = sha256
policy = any
unique_subject = no
x509_extensions = leaf
[any]
organizationName = optional
commonName = supplied
[leaf]
basicConstraints = CA:FALSE
keyUsage = critical,digitalSignature,keyEncipherment
extendedKeyUsage = serverAuth,clientAuth
subjectAltName = $san
CNF
  openssl ca -batch -notext -config "$dir/ca.cnf" -startdate "$from" -enddate "$to" \
    -in "$dir/server.csr" -out "$dir/server.pem" 2>"$dir/openssl.log" || { cat "$dir/openssl.log" >&2; die "no certificate"; }
  rm -f "$dir"/index.txt* "$dir"/server.csr "$dir"/ca.cnf "$dir"/openssl.log "$dir"/[0-9A-F]*[0-9A-F].pem
  chmod 600 "$dir"/*.key
}

# facts FILE KEY=VALUE...: keeps the connection facts in FILE and prints them.
facts() { local f=$1; shift; printf '%s\n' "$@" >"$f"; cat "$f"; }
