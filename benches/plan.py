#!/usr/bin/python3
"""`plan` of everybody through the daemon: time, and peak memory of the daemon and of the command.

    cargo build --release
    benches/plan.py --users 100000 [--users 1000000]

A real slapd of the lab with N people, an empty SQLite store, one daemon. Peak memory is VmHWM of the daemon, and what wait4 says of
the command. `REALMSYNC_BINARY` names another build, for a comparison in the same hour."""
import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from passes import BINARY, LAB, configure, measured, start


def peak(process):
    """Peak memory of a process in MiB."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")) / 1024


def bench(users, folder):
    facts = start("openldap", folder / "slapd", "--port", "0", "--ldaps-port", "0", "--users", str(users))
    daemon = None
    try:
        file = configure(folder, facts, f"sqlite:{folder}/realmsync.db")
        daemon = subprocess.Popen([BINARY, "-c", file, "run"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for _ in range(200):
            if (folder / "control.sock").exists():
                break
            time.sleep(0.05)
        before = peak(daemon)
        print(f"\n{users:,} people\n\n| what | clock | command | daemon, peak so far |\n|---|---|---|---|\n| at start | | | {before:.0f} MiB |", flush=True)
        for words, ok in ((["--json", "plan", "bench"], (2,)), (["plan", "bench"], (2,)), (["sync", "bench"], (0,))):
            clock, _, memory = measured([BINARY, "-c", file, *words], ok=ok)
            print(f"| {' '.join(words[:-1])} | {clock:.1f} s | {memory:.0f} MiB | {peak(daemon):.0f} MiB |", flush=True)
    finally:
        if daemon:
            daemon.terminate()
            daemon.wait()
        subprocess.run([LAB / "openldap", "stop", "--dir", folder / "slapd", "--purge"], stdout=subprocess.DEVNULL)


def main():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("--users", type=int, action="append")
    o = a.parse_args()
    if not BINARY.exists():
        sys.exit(f"{BINARY} is not there: cargo build --release")
    for users in o.users or [100_000]:
        folder = Path(tempfile.mkdtemp(prefix="realmsync-bench-"))
        folder.chmod(0o755)
        try:
            bench(users, folder)
        finally:
            shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
