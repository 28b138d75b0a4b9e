#!/usr/bin/python3
"""How soon a change in the directory is a webhook, what an idle daemon costs, and how long deltas take.

    cargo build --release
    benches/push.py [--users 10000] [--rate 50] [--seconds 30] [--realms 10] [--only latency|idle|deltas]

A real slapd of the lab runs beside it, and a receiver of webhooks in this process. `latency`: one person after the other gets a
new number at the rate, through one LDAP connection; the time is from the moment at which slapd answered the modification to the one
at which the webhook was read. `idle`: a daemon with so many realms on push, all of one slapd, left alone for the seconds: its CPU by
the kernel's count and its resident memory. `deltas`: `sync` through a daemon that holds the store, with nothing new and after 1,000
changes; the run's own `elapsed_ms`."""
import argparse
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LAB = ROOT / "tests/lab"
BINARY = Path(os.environ.get("REALMSYNC_BINARY", ROOT / "target/release/realmsync"))


class Receiver(BaseHTTPRequestHandler):
    """Notes when each number was told first."""
    protocol_version = "HTTP/1.1"
    told = {}

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        now = time.monotonic()
        phone = json.loads(body)["data"]["user"]["phone"]
        self.told.setdefault(phone, now)
        self.send_response(204)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


def start(folder, users):
    subprocess.run([LAB / "openldap", "start", "--dir", folder, "--port", "0", "--ldaps-port", "0", "--users", str(users)],
                   check=True, stdout=subprocess.DEVNULL)
    return dict(line.split("=", 1) for line in (folder / "facts").read_text().splitlines() if "=" in line)


def configure(folder, facts, hooks, realms):
    for name, value in (("bind", facts["BIND_PASSWORD"]), ("webhook", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")):
        (folder / name).write_text(value)
        (folder / name).chmod(0o600)
    text = f"""version = 1
[store]
url = "sqlite:{folder}/realmsync.db"
[control]
socket = "{folder}/control.sock"
[log]
format = "text"
level = "warn"
[delivery]
kind = "webhook"
url = "{hooks}"
secret-file = "{folder}/webhook"
"""
    for n in range(realms):
        text += f"""[[realm]]
id = "bench{n}"
schedule = "0 3 * * *"
[realm.directory]
kind = "openldap"
servers = ["{facts['LDAPS_URI']}"]
ca-file = "{facts['CA_FILE']}"
bind-dn = "{facts['BIND_DN']}"
bind-password-file = "{folder}/bind"
base = ["{facts['PEOPLE_DN']}"]
filter = "{'(objectClass=inetOrgPerson)' if realms == 1 else f'(&(objectClass=inetOrgPerson)(employeeNumber=*{n}))'}"
[realm.phone]
region = "SK"
[realm.brake]
phone-changed = "100%"
floor = 1000000
"""
    (folder / "realmsync.toml").write_text(text)
    (folder / "realmsync.toml").chmod(0o600)


class Daemon:
    def __init__(self, folder):
        self.folder = folder
        self.process = subprocess.Popen([BINARY, "-c", folder / "realmsync.toml", "run"], stderr=open(folder / "log", "w"))
        self.wait(lambda: (folder / "control.sock").exists() and self.run("status") is not None, "the daemon")

    def run(self, *arguments):
        done = subprocess.run([BINARY, "-c", self.folder / "realmsync.toml", "--json", *arguments], capture_output=True, text=True)
        return [json.loads(line) for line in done.stdout.splitlines()] if done.returncode in (0, 3) else None

    def wait(self, holds, what, seconds=600):
        end = time.monotonic() + seconds
        while not holds():
            if time.monotonic() > end or self.process.poll() is not None:
                sys.exit(f"{what} did not come: {(self.folder / 'log').read_text()[-2000:]}")
            time.sleep(0.05)

    def connected(self):
        self.wait(lambda: all(r.get("following", {}).get("push", {}).get("connected") for r in self.run("status")), "push")

    def usage(self):
        """CPU seconds and resident MiB."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        resident = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{self.process.pid}/status").read_text())
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK"), int(resident[1]) / 1024

    def stop(self):
        self.process.terminate()
        self.process.wait(20)


def modify(facts, ldif):
    subprocess.run(["ldapmodify", "-x", "-H", facts["LDAP_URI"], "-D", facts["ADMIN_DN"], "-w", facts["ADMIN_PASSWORD"]],
                   input=ldif, text=True, check=True, stdout=subprocess.DEVNULL)


def replace(dn, phone):
    return f"dn: {dn}\nchangetype: modify\nreplace: mobile\nmobile: {phone}\n\n"


def dns_of(daemon, wanted):
    people = [u["dn"] for u in daemon.run("users", "list", "--realm", "bench0") if u["phone"] and u["state"] == "active"]
    if len(people) < wanted:
        sys.exit(f"{len(people)} people have a number, {wanted} are wanted: raise --users")
    return people[:wanted]


def latency(daemon, facts, rate, seconds):
    people = dns_of(daemon, rate * seconds)
    # One ldapmodify for all: it answers each modification with a line ("modifying entry …") before it sends it.
    child = subprocess.Popen(["ldapmodify", "-x", "-H", facts["LDAP_URI"], "-D", facts["ADMIN_DN"], "-w", facts["ADMIN_PASSWORD"]],
                             stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, bufsize=1)
    set_at, begun = {}, time.monotonic()
    for n, dn in enumerate(people):
        time.sleep(max(0.0, begun + n / rate - time.monotonic()))
        phone = f"+4219057{n:05}"
        set_at[phone] = time.monotonic()
        child.stdin.write(replace(dn, phone))
        child.stdin.flush()
    child.stdin.close()
    child.wait()
    daemon.wait(lambda: all(phone in Receiver.told for phone in set_at), "some messages", 60)
    took = sorted((Receiver.told[phone] - at) * 1000 for phone, at in set_at.items())
    row("change to webhook received, median", f"{statistics.median(took):.1f} ms")
    row("change to webhook received, 99 %", f"{took[int(len(took) * 0.99)]:.1f} ms")
    row("change to webhook received, longest", f"{took[-1]:.1f} ms")


def idle(daemon, seconds, realms):
    time.sleep(5)
    before, _ = daemon.usage()
    time.sleep(seconds)
    after, resident = daemon.usage()
    row(f"idle, {realms} realms on push, CPU", f"{(after - before) / seconds * 100:.2f} % of a core")
    row(f"idle, {realms} realms on push, memory", f"{resident:.0f} MiB")


def deltas(daemon, facts, rounds=9):
    took = []
    for _ in range(rounds):
        run = daemon.run("sync", "bench0")[0]
        assert run["mode"] == "delta" and run["outcome"] == "unchanged", run
        took.append(run["elapsed_ms"])
    row("delta, nothing new", f"{statistics.median(took)} ms")
    # Paused, so that push does not take them first.
    daemon.run("pause", "bench0")
    modify(facts, "".join(replace(dn, f"+4219058{n:05}") for n, dn in enumerate(dns_of(daemon, 1000))))
    daemon.run("resume", "bench0")
    begun = time.monotonic()
    daemon.wait(lambda: any(r["mode"] == "delta" and r["phone_changed"] >= 1000 for r in daemon.run("runs", "bench0")), "the delta", 60)
    run = next(r for r in daemon.run("runs", "bench0") if r["phone_changed"] >= 1000)
    row("delta, 1,000 new numbers", f"{run['elapsed_ms']} ms (by {run['trigger']}, {time.monotonic() - begun:.1f} s after resume)")


def row(what, figure):
    print(f"| {what} | {figure} |", flush=True)


def main():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("--users", type=int, default=10_000)
    a.add_argument("--rate", type=int, default=50)
    a.add_argument("--seconds", type=int, default=30)
    a.add_argument("--realms", type=int, default=10, choices=range(1, 11), metavar="1..10", help="each has the people whose number ends in its digit")
    a.add_argument("--only", choices=("latency", "idle", "deltas"))
    o = a.parse_args()
    if not BINARY.exists():
        sys.exit(f"{BINARY} is not there: cargo build --release")
    server = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    hooks = f"http://127.0.0.1:{server.server_port}/hooks"
    folder = Path(tempfile.mkdtemp(prefix="realmsync-bench-"))
    folder.chmod(0o755)
    facts = start(folder / "slapd", o.users)
    print(f"{' '.join(sys.argv)}\n\n{o.users:,} people\n\n| what | figure |\n|---|---|", flush=True)
    try:
        for what, realms in (("latency", 1), ("deltas", 1), ("idle", o.realms)):
            if o.only not in (None, what):
                continue
            home = folder / what
            home.mkdir()
            configure(home, facts, hooks, realms)
            daemon = Daemon(home)
            try:
                for n in range(realms):
                    first = daemon.run("sync", f"bench{n}")
                    if not first:
                        sys.exit(f"the first pass: {(home / 'log').read_text()[-2000:]}")
                    if first[0]["outcome"] == "held":
                        daemon.run("approve", first[0]["run"])
                daemon.connected()
                if what == "latency":
                    latency(daemon, facts, o.rate, o.seconds)
                elif what == "deltas":
                    deltas(daemon, facts)
                else:
                    idle(daemon, o.seconds, realms)
            finally:
                daemon.stop()
    finally:
        subprocess.run([LAB / "openldap", "stop", "--dir", folder / "slapd", "--purge"], stdout=subprocess.DEVNULL)
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
