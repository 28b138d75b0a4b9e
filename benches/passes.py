#!/usr/bin/python3
"""Full passes against ldapsearch, in one run on one machine: first load, nothing changed, peak memory.

    cargo build --release
    benches/passes.py --users 100000 [--users 1000000] [--store sqlite] [--store postgres] [--rounds 3]

A real slapd of the lab with N people runs beside it. `ldapsearch -E pr=1000/noprompt` reads the same attributes over ldaps
into /dev/null; the figures are medians, and each is given as a ratio to the median of ldapsearch in the same run."""
import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LAB = ROOT / "tests/lab"
BINARY = Path(os.environ.get("REALMSYNC_BINARY", ROOT / "target/release/realmsync"))
ATTRIBUTES = ["uid", "displayName", "cn", "mail", "mobile", "c", "preferredLanguage", "entryUUID", "pwdAccountLockedTime"]


def measured(command, ok=(0,), **more):
    """Seconds by the clock, CPU seconds and peak memory (MiB) of one command."""
    began = time.monotonic()
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, **more)
    said = child.stderr.read()
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode not in ok:
        sys.exit(f"{command}: exit {child.returncode}: {said.decode(errors='replace')}")
    return time.monotonic() - began, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def start(script, folder, *options):
    subprocess.run([LAB / script, "start", "--dir", folder, *options], check=True, stdout=subprocess.DEVNULL)
    return dict(line.split("=", 1) for line in (folder / "facts").read_text().splitlines() if "=" in line)


def configure(folder, facts, store):
    secret = folder / "bind"
    secret.write_text(facts["BIND_PASSWORD"])
    secret.chmod(0o600)
    file = folder / "realmsync.toml"
    file.write_text(f"""version = 1
[store]
url = "{store}"
[control]
socket = "{folder}/control.sock"
[[realm]]
id = "bench"
schedule = "0 3 * * *"
[realm.directory]
kind = "openldap"
changes = "full"
servers = ["{facts['LDAPS_URI']}"]
ca-file = "{facts['CA_FILE']}"
bind-dn = "{facts['BIND_DN']}"
bind-password-file = "{secret}"
base = ["{facts['PEOPLE_DN']}"]
[realm.phone]
region = "SK"
""")
    file.chmod(0o600)
    return file


def row(what, figures, base):
    clock, cpu, memory = (statistics.median(column) for column in zip(*figures))
    print(f"| {what} | {clock:.2f} s | {clock / base:.2f} × | {cpu:.2f} s | {memory:.0f} MiB |", flush=True)


def bench(users, stores, rounds, folder):
    facts = start("openldap", folder / "slapd", "--port", "0", "--ldaps-port", "0", "--users", str(users))
    try:
        search = ["ldapsearch", "-x", "-LLL", "-H", facts["LDAPS_URI"], "-D", facts["BIND_DN"], "-w", facts["BIND_PASSWORD"],
                  "-b", facts["PEOPLE_DN"], "-E", "pr=1000/noprompt", "(objectClass=inetOrgPerson)", *ATTRIBUTES]
        env = {**os.environ, "LDAPTLS_CACERT": facts["CA_FILE"]}
        measured(search, env=env)
        print(f"\n{users:,} people\n\n| what | clock | to ldapsearch | CPU | peak memory |\n|---|---|---|---|---|")
        peers, firsts, laters = [], {s: [] for s in stores}, {s: [] for s in stores}
        for i in range(rounds):
            peers.append(measured(search, env=env))
            for store in stores:
                home = folder / f"{store}-{i}"
                home.mkdir()
                if store == "postgres":
                    database = start("postgres", home / "server", "--port", "0")
                    url = database["DATABASE_URL"]
                else:
                    url = f"sqlite:{home}/realmsync.db"
                sync = [BINARY, "-c", configure(home, facts, url), "--json", "sync", "bench"]
                firsts[store].append(measured(sync))
                # A pass that is not counted: right after a load PostgreSQL marks and analyzes its rows.
                measured(sync)
                peers.append(measured(search, env=env))
                laters[store].append(measured(sync))
                if store == "postgres":
                    subprocess.run([LAB / "postgres", "stop", "--dir", home / "server", "--purge"], check=True, stdout=subprocess.DEVNULL)
                shutil.rmtree(home, ignore_errors=True)
        base = statistics.median(p[0] for p in peers)
        row("ldapsearch", peers, base)
        for store in stores:
            row(f"first load, {store}", firsts[store], base)
            row(f"nothing changed, {store}", laters[store], base)
    finally:
        subprocess.run([LAB / "openldap", "stop", "--dir", folder / "slapd", "--purge"], stdout=subprocess.DEVNULL)


def main():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("--users", type=int, action="append")
    a.add_argument("--store", choices=("sqlite", "postgres"), action="append")
    a.add_argument("--rounds", type=int, default=3)
    o = a.parse_args()
    if not BINARY.exists():
        sys.exit(f"{BINARY} is not there: cargo build --release")
    for users in o.users or [100_000]:
        folder = Path(tempfile.mkdtemp(prefix="realmsync-bench-"))
        folder.chmod(0o755)
        try:
            bench(users, o.store or ["sqlite", "postgres"], o.rounds, folder)
        finally:
            shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
