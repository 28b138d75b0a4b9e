#!/usr/bin/python3
"""Pages and searches of `users list` on the control socket while full passes run; then a method for many.

    cargo build --release
    benches/users_list.py --users 1000000 [--readers 20] [--rounds 50] [--pause 0.5] [--many 100000] [--postgres URL] [--no-passes]

A slapd of the lab with so many people, a first load of them, and a daemon that makes one full pass after another. Beside it readers ask for a
page of 50, wait for `--pause` seconds as a person does, and ask for the next one. For each kind of page the median and the 99th percentile are printed.
`--no-passes`: no directory; the users are written straight into the table, and nothing runs beside.
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

import passes

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


def people(realm, users):
    methods = ["", "sms-otp", "app-otp", "sms-otp,app-otp", "hard-token"]
    for n in range(users):
        name = f"{realm}{n:07d}"
        yield (uuid.uuid4(), realm, name, name, f"Eva Nováková {n}", f"{name}@example.org", f"+4219{n:08d}", "manual",
               "active", 1, methods[n % len(methods)], NOW + n, NOW + n, "manual")


def fill(file, realms):
    store = sqlite3.connect(file)
    store.execute("PRAGMA synchronous = OFF")
    places = ", ".join("?" * len(COLUMNS))
    for realm, users in realms:
        rows = ((row[0].bytes, *row[1:]) for row in people(realm, users))
        store.executemany(f"INSERT INTO users ({', '.join(COLUMNS)}) VALUES ({places})", rows)
    indexed = store.execute("SELECT 1 FROM sqlite_schema WHERE name = 'search_log'").fetchone()
    if indexed:
        store.execute("INSERT INTO search_log (user_id) VALUES (NULL)")
    store.commit()
    store.close()


def fill_postgres(url, realms):
    copy = f"\\copy users ({', '.join(COLUMNS)}) FROM STDIN"
    child = subprocess.Popen(["psql", "-q", "-v", "ON_ERROR_STOP=1", url, "-c", copy], stdin=subprocess.PIPE, encoding="utf-8")
    for realm, users in realms:
        for row in people(realm, users):
            child.stdin.write("\t".join(["\\\\x" + row[0].hex, *map(str, row[1:])]) + "\n")
    child.stdin.close()
    if child.wait():
        sys.exit("psql cannot fill the table")
    indexed = "DO $$ BEGIN IF to_regclass('search_log') IS NOT NULL THEN INSERT INTO search_log (user_id) VALUES (NULL); END IF; END $$"
    subprocess.run(["psql", "-q", url, "-c", "ANALYZE users", "-c", indexed], check=True)


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


class Passes(threading.Thread):
    """One full pass after another, until it is told to end."""

    def __init__(self, command):
        super().__init__()
        self.command, self.over, self.took = command, threading.Event(), []

    def run(self):
        while not self.over.is_set():
            began = time.perf_counter()
            subprocess.run([*self.command, "sync", "bench"], check=True, stdout=subprocess.DEVNULL)
            self.took.append(time.perf_counter() - began)


def words_of(users):
    """What administrators look for: parts of people who are there."""
    found = {"name": [], "part": [], "address": [], "digits": [], "letters": [], "two": []}
    for user in users:
        shown = (user["display_name"] or user["username"]).split()[-1]
        if len(shown) < 4:
            continue
        found["name"].append(shown)
        at = random.randrange(len(shown) - 3)
        found["part"].append(shown[at:at + 4])
        found["letters"].append(shown[at:at + 3])
        found["two"].append(shown[at:at + 2])
        if user["email"]:
            found["address"].append(user["email"].split("@")[0])
        if user["phone"]:
            found["digits"].append(user["phone"][-6:])
    return found


def main():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("--users", type=int, default=1_000_000)
    a.add_argument("--readers", type=int, default=20)
    a.add_argument("--rounds", type=int, default=50)
    a.add_argument("--pause", type=float, default=0.5)
    a.add_argument("--many", type=int, default=100_000)
    a.add_argument("--wait", type=float, default=600, help="seconds to wait for the index of searches")
    a.add_argument("--no-passes", action="store_true")
    a.add_argument("--postgres", metavar="URL")
    o = a.parse_args()
    if not BINARY.exists():
        sys.exit(f"{BINARY} is not there: cargo build --release")
    folder = Path(tempfile.mkdtemp(prefix="realmsync-bench-"))
    folder.chmod(0o755)
    daemon = beside = None
    slapd = folder / "slapd"
    try:
        if o.no_passes:
            facts = {"BIND_PASSWORD": "x", "CA_FILE": "/etc/ssl/certs/ca-certificates.crt", "LDAPS_URI": "ldaps://127.0.0.1:1", "BIND_DN": "cn=nobody",
                     "PEOPLE_DN": "dc=example,dc=org"}
        else:
            facts = passes.start("openldap", slapd, "--port", "0", "--ldaps-port", "0", "--users", str(o.users))
        command = [BINARY, "-c", passes.configure(folder, facts, o.postgres or f"sqlite:{folder}/realmsync.db")]
        realms = [("many", o.many)] + [("plain", o.users)] * o.no_passes
        for realm, _ in realms:
            subprocess.run([*command, "realms", "create", realm], check=True, stdout=subprocess.DEVNULL)
        if not o.no_passes:
            began = time.perf_counter()
            subprocess.run([*command, "sync", "bench"], check=True, stdout=subprocess.DEVNULL)
            print(f"first load: {time.perf_counter() - began:.1f} s")
        if o.postgres:
            fill_postgres(o.postgres, realms)
        else:
            fill(folder / "realmsync.db", realms)
        daemon = subprocess.Popen([*command, "run"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for _ in range(400):
            if (folder / "control.sock").exists():
                break
            time.sleep(0.05)
        connection = OnSocket(folder / "control.sock")
        began = time.perf_counter()
        while time.perf_counter() - began < o.wait:
            took = time.perf_counter()
            get(connection, limit=50, search="qxzqxzq")
            if time.perf_counter() - took < 0.02:
                break
            time.sleep(1)
        print(f"searches are quick after {time.perf_counter() - began:.0f} s")
        places, seen = [], []
        for letter in "abcdefghijklmnoprstuvz":
            answer = get(connection, limit=200, realm="bench" if not o.no_passes else "plain", search=letter, sort=random.choice(["name", "-name"]))
            places += [answer["next"]] if answer["next"] else []
            seen += answer["items"]
        place = None
        for _ in range(min(40, o.users // 1000 - 1)):
            answer = get(connection, limit=1000, sort="-name", **({"after": place} if place else {}))
            place = answer["next"]
            places.append(place)
            seen += answer["items"]
        words = words_of(seen)
        if not o.no_passes:
            beside = Passes(command)
            beside.start()
        realm = "plain" if o.no_passes else "bench"
        what = "nothing" if o.no_passes else "full passes"
        print(f"{o.users:,} users, {o.readers} readers, {what} beside\n\n| page of 50 | median | 99th percentile |\n|---|---|---|")
        pages = [
            ("by name, anywhere", lambda: {"after": random.choice(places)}),
            ("of a realm", lambda: {"realm": realm, "after": random.choice(places)}),
            ("without a method", lambda: {"status": "off", "after": random.choice(places)}),
            ("of a realm, with a method", lambda: {"realm": "many", "method": "app-otp"}),
            ("the newest", lambda: {"sort": "-created"}),
            ("search: a surname", lambda: {"search": random.choice(words["name"])}),
            ("search: a part of it", lambda: {"search": random.choice(words["part"])}),
            ("search: three letters", lambda: {"search": random.choice(words["letters"])}),
            ("search: two letters", lambda: {"search": random.choice(words["two"])}),
            ("search: an address", lambda: {"search": random.choice(words["address"])}),
            ("search: the last six digits", lambda: {"search": random.choice(words["digits"])}),
            ("search: nobody", lambda: {"search": f"{random.randrange(10**9):09d}x"}),
            ("search: a surname, the newest", lambda: {"search": random.choice(words["name"]), "sort": "-created"}),
        ]
        for name, query in pages:
            median, worst = measure(folder / "control.sock", lambda: {"limit": 50, **query()}, o.readers, o.rounds, o.pause)
            print(f"| {name} | {median:.1f} ms | {worst:.1f} ms |", flush=True)
        if beside:
            beside.over.set()
            beside.join()
            print(f"\n{len(beside.took)} passes beside, {sum(beside.took) / len(beside.took):.1f} s each")
        took, operation = timed(command, "two-factor", "enable", "fido", "--realm=many", "--yes")
        print(f"\n{operation['changed']:,} users of {operation['total']:,} have a method more: {took:.1f} s", flush=True)
        took, _ = timed(command, "undo", operation["run"])
        print(f"put back: {took:.1f} s", flush=True)
    finally:
        if beside:
            beside.over.set()
            beside.join()
        if daemon:
            daemon.terminate()
            daemon.wait()
        if not o.no_passes:
            subprocess.run([passes.LAB / "openldap", "stop", "--dir", slapd, "--purge"], stdout=subprocess.DEVNULL)
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
