#!/usr/bin/env python3
"""Imports a file of users, and the same file by the database's own means: `sqlite3 .import` or `\\copy`.

    benches/import.py [--users 100000] [--rounds 3] [--binary target/release/realmsync] [--postgres URL]

Prints for each round the seconds of both, their ratio, and the peak memory of the import. `--postgres` is an empty database of its own,
which is emptied before each round. Needs `sqlite3`, or `psql`.
"""

import argparse
import os
import resource
import shutil
import subprocess
import tempfile
import time

COLUMNS = "username TEXT, phone TEXT, display_name TEXT, email TEXT, note TEXT"


def write(path, users):
    """A file of users as an administrator has it."""
    with open(path, "w", encoding="utf-8") as out:
        out.write("username,phone,display_name,email,note\n")
        for n in range(users):
            out.write(f"u{n:07},+421905{n % 1_000_000:06},Osoba {n},u{n}@example.org,\n")


def seconds(command, **options):
    """Runs a command; gives its seconds, and the peak of its memory in MiB."""
    before = time.monotonic()
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, **options)
    said = child.stderr.read().decode(errors="replace")
    _, status, usage = os.wait4(child.pid, 0)
    code = os.waitstatus_to_exitcode(status)
    if code:
        raise SystemExit(f"{command[0]} ended with {code}: {said[-2000:]}")
    return time.monotonic() - before, usage.ru_maxrss / 1024


def database_of_peer(folder, file, postgres):
    """The same file by the database's own means."""
    if postgres:
        psql = ["psql", "-q", "-v", "ON_ERROR_STOP=1", postgres]
        subprocess.run(
            [*psql, "-c", f"DROP TABLE IF EXISTS peer; CREATE TABLE peer ({COLUMNS})"], check=True
        )
        copy = f"\\copy peer FROM '{file}' WITH (FORMAT csv, HEADER)"
        taken = seconds([*psql, "-c", copy])[0]
        subprocess.run([*psql, "-c", "DROP TABLE peer"], check=True)
        return taken
    peer = os.path.join(folder, "peer.db")
    if os.path.exists(peer):
        os.remove(peer)
    script = [f"CREATE TABLE peer ({COLUMNS});", ".mode csv", f".import --skip 1 {file} peer"]
    return seconds(["sqlite3", peer, *script])[0]


def emptied(folder, postgres):
    """A store in which nobody is; gives its URL."""
    if postgres:
        drop = "DROP SCHEMA public CASCADE; CREATE SCHEMA public"
        subprocess.run(["psql", "-q", postgres, "-c", drop], check=True, stderr=subprocess.DEVNULL)
        return postgres
    store = os.path.join(folder, "store")
    shutil.rmtree(store, ignore_errors=True)
    os.mkdir(store)
    return f"sqlite:{store}/realmsync.db"


def main():
    """Measures, and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--users", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--binary", default="target/release/realmsync")
    parser.add_argument("--postgres", default="")
    asked = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # The configuration may hold a password.
    os.umask(0o077)
    with tempfile.TemporaryDirectory() as folder:
        file = os.path.join(folder, "users.csv")
        write(file, asked.users)
        config = os.path.join(folder, "realmsync.toml")
        print("round  import s  MiB  again s  peer s  ratio")
        for n in range(asked.rounds):
            peer = database_of_peer(folder, file, asked.postgres)
            url = emptied(folder, asked.postgres)
            insecure = "insecure-plaintext = true\n" if asked.postgres else ""
            with open(config, "w", encoding="utf-8") as out:
                out.write(
                    f'version = 1\n[control]\nsocket = "{folder}/control.sock"\n[store]\nurl = "{url}"\n{insecure}'
                )
            base = [asked.binary, "-c", config]
            seconds([*base, "realms", "create", "many", "--region", "SK"])
            command = [*base, "users", "import", "--realm", "many", file, "--yes"]
            taken, memory = seconds(command)
            again, _ = seconds(command)
            print(
                f"{n + 1:5}  {taken:8.2f}  {memory:3.0f}  {again:7.2f}  {peer:6.2f}  {taken / peer:5.2f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
