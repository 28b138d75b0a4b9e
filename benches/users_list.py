#!/usr/bin/python3
"""Pages of `users list` on the control socket: a million users, readers side by side, a page each at a random place; then a method for many.

    cargo build --release
    benches/users_list.py --users 1000000 [--readers 20] [--rounds 50] [--pause 0.5] [--many 100000] [--postgres URL]

A store whose users are written straight into its table (nobody waits for a directory), one daemon, and readers that ask for a
page of 50, wait for `--pause` seconds as a person does, and ask for the next one. For each kind of page the median and the 99th percentile are printed;
those of searches are scans, and say how long a search that finds nobody takes at worst.
`--many` users are in a realm of their own: the time of `two-factor enable` for all of them at once, and of its `undo`, is printed last. `--postgres` is
an empty database; the store is an SQLite file without it. Needs `psql` then.
`REALMSYNC_BINARY` names another build."""
import argparse
import http.client
import json
import os
import random
import shutil
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from pathlib import Path
from urllib.parse import urlencode

ROOT = Path(__file__).resolve().parent.parent
BINARY = Path(os.environ.get("REALMSYNC_BINARY", ROOT / "target/release/realmsync"))
NOW = 1_700_000_000_000


class OnSocket(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("localhost")
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(str(self.path))


COLUMNS = ("id", "realm", "username", "username_key", "display_name", "email", "phone", "phone_source", "state", "version", "two_factor",
           "created_at", "updated_at", "origin")


def people(users, many):
    methods = ["", "sms-otp", "app-otp", "sms-otp,app-otp", "hard-token"]

    for n in range(users):
        name = f"user{n:07d}"
        yield (uuid.uuid4(), "many" if n < many else "bench", name, name, f"Eva Nováková {n}", f"{name}@example.org", f"+4219{n:08d}", "manual",
               "active", 1, methods[n % len(methods)], NOW + n, NOW + n, "manual")


def fill(file, users, many):
    store = sqlite3.connect(file)
    store.execute("PRAGMA synchronous = OFF")
    places = ", ".join("?" * len(COLUMNS))
    rows = ((row[0].bytes, *row[1:]) for row in people(users, many))
    store.executemany(f"INSERT INTO users ({', '.join(COLUMNS)}) VALUES ({places})", rows)
    store.commit()
    store.close()


def fill_postgres(url, users, many):
    copy = f"\\copy users ({', '.join(COLUMNS)}) FROM STDIN"
    child = subprocess.Popen(["psql", "-q", "-v", "ON_ERROR_STOP=1", url, "-c", copy], stdin=subprocess.PIPE, encoding="utf-8")
    for row in people(users, many):
        child.stdin.write("\t".join(["\\\\x" + row[0].hex, *map(str, row[1:])]) + "\n")
    child.stdin.close()
    if child.wait():
        sys.exit("psql cannot fill the table")
    subprocess.run(["psql", "-q", url, "-c", "ANALYZE users"], check=True)


def timed(command, *arguments):
    began = time.perf_counter()
    done = subprocess.run([*command, "--json", *arguments], check=True, stdout=subprocess.PIPE)
    return time.perf_counter() - began, json.loads(done.stdout.splitlines()[0])


def get(connection, **query):
    connection.request("GET", "/api/v1/users?" + urlencode(query))
    answer = json.loads(connection.getresponse().read())
    if "result" not in answer:
        sys.exit(f"{query}: {answer}")
    return answer["result"]


def measure(path, what, readers, rounds, pause):
    took, lock = [], threading.Lock()

    def reader():
        connection = OnSocket(path)
        own = []
        for _ in range(rounds):
            time.sleep(pause * (0.5 + random.random()))
            query = what()
            began = time.perf_counter()
            get(connection, **query)
            own.append(time.perf_counter() - began)
        with lock:
            took.extend(own)

    threads = [threading.Thread(target=reader) for _ in range(readers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took.sort()
    return took[len(took) // 2] * 1000, took[int(len(took) * 0.99)] * 1000


def main():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("--users", type=int, default=1_000_000)
    a.add_argument("--readers", type=int, default=20)
    a.add_argument("--rounds", type=int, default=50)
    a.add_argument("--pause", type=float, default=0.5)
    a.add_argument("--many", type=int, default=100_000)
    a.add_argument("--postgres", metavar="URL")
    o = a.parse_args()
    if not BINARY.exists():
        sys.exit(f"{BINARY} is not there: cargo build --release")
    folder = Path(tempfile.mkdtemp(prefix="realmsync-bench-"))
    daemon = None
    try:
        file = folder / "realmsync.toml"
        file.write_text(f"""version = 1
[store]
url = "{o.postgres or f'sqlite:{folder}/realmsync.db'}"
[control]
socket = "{folder}/control.sock"
[[realm]]
id = "unused"
[realm.directory]
servers = ["ldaps://127.0.0.1:1"]
bind-dn = "cn=nobody"
bind-password-file = "{folder}/bind"
base = ["dc=example,dc=org"]
""")
        (folder / "bind").write_text("x")
        for path in (file, folder / "bind"):
            path.chmod(0o600)
        command = [BINARY, "-c", file]
        for realm in ["bench", "many"]:
            subprocess.run([*command, "realms", "create", realm], check=True, stdout=subprocess.DEVNULL)
        if o.postgres:
            fill_postgres(o.postgres, o.users, o.many)
        else:
            fill(folder / "realmsync.db", o.users, o.many)
        daemon = subprocess.Popen([*command, "run"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for _ in range(400):
            if (folder / "control.sock").exists():
                break
            time.sleep(0.05)
        connection = OnSocket(folder / "control.sock")
        places = [get(connection, limit=1000)["next"]]
        for _ in range(min(20, o.users // 1000 - 1)):
            places.append(get(connection, limit=1000, after=places[-1])["next"])
        print(f"{o.users:,} users, {o.readers} readers\n\n| page of 50 | median | 99th percentile |\n|---|---|---|")
        pages = [
            ("by name, anywhere", lambda: {"limit": 50, "after": random.choice(places)}),
            ("of a realm", lambda: {"limit": 50, "realm": "bench", "after": random.choice(places)}),
            ("with a method", lambda: {"limit": 50, "method": "app-otp", "after": random.choice(places)}),
            ("the newest", lambda: {"limit": 50, "sort": "-created"}),
            ("search that many fit", lambda: {"limit": 50, "search": "eva"}),
        ]
        for name, what in pages:
            median, worst = measure(folder / "control.sock", what, o.readers, o.rounds, o.pause)
            print(f"| {name} | {median:.1f} ms | {worst:.1f} ms |", flush=True)
        median, worst = measure(folder / "control.sock", lambda: {"limit": 50, "search": f"{random.randrange(10**9):09d}x"}, 1, 5, 0)
        print(f"| search that nobody fits, one reader | {median:.1f} ms | {worst:.1f} ms |", flush=True)
        took, operation = timed(command, "two-factor", "enable", "fido", "--realm=many", "--yes")
        print(f"\n{operation['changed']:,} users of {operation['total']:,} have a method more: {took:.1f} s", flush=True)
        took, _ = timed(command, "undo", operation["run"])
        print(f"put back: {took:.1f} s", flush=True)
    finally:
        if daemon:
            daemon.terminate()
            daemon.wait()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
