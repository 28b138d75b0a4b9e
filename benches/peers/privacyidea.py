#!/usr/bin/python3
"""privacyIDEA 3.14 from PyPI, with two workers of gunicorn and a PostgreSQL of the lab, as a peer that verifies codes.

Used by other benches: `with Peer(folder, database_url) as peer: peer.rate(seconds, clients)`. By itself it prints the rates:

    benches/peers/privacyidea.py [--tokens 400] [--seconds 20] [--clients 4]

Codes are HOTP of one token each, so that each request has a code that counts; tokens are named by their serial, which spares the
peer the search for the user."""
import argparse
import hashlib
import hmac
import json
import os
import secrets
import shutil
import struct
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LAB = ROOT / "tests/lab"
PACKAGES = ["privacyidea==3.14", "gunicorn==27.0.1", "psycopg2-binary==2.9.13"]


def hotp(seed, counter):
    mac = hmac.new(seed, struct.pack(">Q", counter), hashlib.sha1).digest()
    at = mac[-1] & 15
    return f"{(int.from_bytes(mac[at:at + 4], 'big') & 0x7fffffff) % 1_000_000:06}"


class Peer:
    """An installation in a folder of its own; it ends with the `with` block."""

    def __init__(self, folder, database_url, port=25980):
        self.folder, self.port = Path(folder), port
        self.url = f"http://127.0.0.1:{port}"
        self.database = database_url.replace("postgres://", "postgresql+psycopg2://")
        self.tokens = []

    def __enter__(self):
        subprocess.run([sys.executable, "-m", "venv", self.folder / "venv"], check=True)
        self.run("pip", "install", "--quiet", *PACKAGES)
        config = self.folder / "pi.cfg"
        config.write_text(f"""
SQLALCHEMY_DATABASE_URI = {self.database!r}
SECRET_KEY = {secrets.token_hex(16)!r}
PI_PEPPER = {secrets.token_hex(8)!r}
PI_ENCFILE = {str(self.folder / 'enckey')!r}
PI_AUDIT_KEY_PRIVATE = {str(self.folder / 'private.pem')!r}
PI_AUDIT_KEY_PUBLIC = {str(self.folder / 'public.pem')!r}
PI_LOGFILE = {str(self.folder / 'peer.log')!r}
PI_LOGLEVEL = 40
""")
        self.env = {**os.environ, "PRIVACYIDEA_CONFIGFILE": str(config)}
        for what in ("create_enckey", "create_audit_keys", "create_tables"):
            self.run("pi-manage", "setup", what)
        self.password = secrets.token_hex(8)
        self.run("pi-manage", "admin", "add", "admin", "-p", self.password)
        self.server = subprocess.Popen(
            [self.folder / "venv/bin/gunicorn", "--workers", "2", "--bind", f"127.0.0.1:{self.port}", "--log-level", "error",
             f"privacyidea.app:create_app(config_name='production', config_file='{config}')"],
            env=self.env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for _ in range(120):
            try:
                urllib.request.urlopen(self.url, timeout=5).read()
                break
            except OSError:
                time.sleep(0.5)
        answer = self.post("/auth", {"username": "admin", "password": self.password})
        self.auth = answer["result"]["value"]["token"]
        return self

    def __exit__(self, *_):
        self.server.terminate()
        self.server.wait(20)

    def run(self, tool, *arguments):
        done = subprocess.run([self.folder / "venv/bin" / tool, *arguments], env=getattr(self, "env", None), capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"{tool} {arguments}: {done.stdout}{done.stderr}")

    def post(self, path, form, headers=()):
        request = urllib.request.Request(self.url + path, urllib.parse.urlencode(form).encode(), dict(headers))
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)

    def make(self, count):
        """Makes tokens; each verifies one code after the other."""
        for n in range(count):
            seed = secrets.token_bytes(20)
            form = {"type": "hotp", "otpkey": seed.hex(), "serial": f"B{n:06}", "genkey": 0}
            self.post("/token/init", form, {"Authorization": self.auth})
            self.tokens.append([f"B{n:06}", seed, 0])

    def rate(self, seconds, clients):
        """Accepted codes a second."""
        accepted, end, lock = [0], time.monotonic() + seconds, threading.Lock()

        def client(mine):
            done = 0
            while time.monotonic() < end:
                for token in mine:
                    serial, seed, counter = token
                    token[2] += 1
                    answer = self.post("/validate/check", {"serial": serial, "pass": hotp(seed, counter)})
                    if not answer["result"]["value"]:
                        sys.exit(f"the peer refused a right code: {answer}")
                    done += 1
                    if time.monotonic() >= end:
                        break
            with lock:
                accepted[0] += done

        began = time.monotonic()
        threads = [threading.Thread(target=client, args=(self.tokens[n::clients],)) for n in range(clients)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return accepted[0] / (time.monotonic() - began)


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--tokens", type=int, default=400)
    options.add_argument("--seconds", type=float, default=20)
    options.add_argument("--clients", type=int, default=4)
    options = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        folder.chmod(0o755)
        subprocess.run([LAB / "postgres", "start", "--dir", folder / "pg", "--port", "0", "--fsync"], check=True, stdout=subprocess.DEVNULL)
        facts = dict(line.split("=", 1) for line in (folder / "pg/facts").read_text().splitlines() if "=" in line)
        try:
            with Peer(folder / "peer", facts["DATABASE_URL"]) as peer:
                peer.make(options.tokens)
                for clients in (1, options.clients):
                    print(f"{clients} client(s): {peer.rate(options.seconds, clients):.1f} accepted codes a second", flush=True)
        finally:
            subprocess.run([LAB / "postgres", "stop", "--dir", folder / "pg", "--purge"], check=False)
            shutil.rmtree(folder / "pg", ignore_errors=True)


if __name__ == "__main__":
    main()
