#!/usr/bin/python3
"""The enrolment page at the server, and a delivery of hard tokens.

    cargo build --release
    benches/factors.py [--links 300] [--tokens 10000] [--store sqlite] [--store postgres]

One daemon, one browser on one connection. For each link: the page is looked at, the secret made, the first code proved; the median and
the 99th percentile of each step. Then a PSKC file of tokens is imported by the command through the daemon, and
once more, when all of it is known. `REALMSYNC_BINARY` names another build."""
import argparse
import base64
import hashlib
import hmac
import html
import http.client
import json
import os
import re
import secrets
import shutil
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from urllib.parse import urlencode, urlsplit

from passes import BINARY, LAB, measured, start

PORT = 18_421
WRAPPED = """<KeyPackage><DeviceInfo><Manufacturer>Maker</Manufacturer><SerialNo>{serial}</SerialNo></DeviceInfo><Key Id="{serial}" \
Algorithm="urn:ietf:params:xml:ns:keyprov:pskc:hotp"><AlgorithmParameters><ResponseFormat Length="6" Encoding="DECIMAL"/></AlgorithmParameters>\
<Data><Secret><PlainValue>{seed}</PlainValue></Secret><Counter><PlainValue>0</PlainValue></Counter></Data></Key></KeyPackage>"""


def totp(key, at):
    seed = base64.b32decode(key + "=" * (-len(key) % 8))
    mac = hmac.new(seed, struct.pack(">Q", int(at) // 30), hashlib.sha1).digest()
    place = mac[-1] & 15
    return f"{(int.from_bytes(mac[place:place + 4], 'big') & 0x7fffffff) % 1_000_000:06}"


def configure(folder, store):
    file = folder / "realmsync.toml"
    plaintext = "insecure-plaintext = true\n" if store.startswith("postgres") else ""
    file.write_text(f"""version = 1
[store]
url = "{store}"
{plaintext}[http]
listen = "127.0.0.1:{PORT}"
public-url = "https://mfa.example.org"
[enrolment]
key-file = "{folder}/key"
[control]
socket = "{folder}/control.sock"
""")
    (folder / "key").write_text(base64.b64encode(secrets.token_bytes(32)).decode())
    for path in (file, folder / "key"):
        path.chmod(0o600)
    return [BINARY, "-c", file]


class Page:
    """A browser on one connection."""

    def __init__(self):
        self.connection = http.client.HTTPConnection("127.0.0.1", PORT)

    def ask(self, method, path, form=None, cookie=None):
        body = urlencode(form) if form else None
        headers = {"content-type": "application/x-www-form-urlencoded"} if form else {}
        if cookie:
            headers["cookie"] = cookie
        began = time.perf_counter()
        self.connection.request(method, path, body, headers)
        answer = self.connection.getresponse()
        text = answer.read().decode()
        took = time.perf_counter() - began
        if answer.status != 200:
            sys.exit(f"{method} {path}: {answer.status}: {text[:500]}")
        return took, text, (answer.getheader("set-cookie") or "").split(";")[0] or cookie


def page(links):
    steps, browser = {"look": [], "begin": [], "prove": []}, Page()
    for path in links:
        took, _, cookie = browser.ask("GET", path)
        steps["look"].append(took)
        took, text, cookie = browser.ask("POST", path, {"step": "begin", "proof": ""}, cookie)
        steps["begin"].append(took)
        key = html.unescape(re.search(r'translate="no">([^<]+)</code>', text).group(1)).replace(" ", "")
        took, _, _ = browser.ask("POST", path, {"step": "use", "code": totp(key, time.time())}, cookie)
        steps["prove"].append(took)
    for step, took in steps.items():
        took.sort()
        print(f"| {step} | {took[len(took) // 2] * 1000:.1f} ms | {took[int(len(took) * 0.99)] * 1000:.1f} ms |", flush=True)


def bench(store, o, folder):
    url = f"sqlite:{folder}/realmsync.db"
    server = None
    if store == "postgres":
        server = folder / "pg"
        url = start("postgres", server, "--port", "0", "--fsync")["DATABASE_URL"]
    command = configure(folder, url)
    daemon = subprocess.Popen([*command, "run"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(400):
            if (folder / "control.sock").exists():
                break
            time.sleep(0.05)
        run = lambda *words: subprocess.run([*command, *words], check=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE).stdout
        run("realms", "create", "bench", "--region=SK", "--two-factor=app-otp")
        people = folder / "people.csv"
        people.write_text("username,phone\n" + "".join(f"u{n:05},+421905{n:06}\n" for n in range(o.links)))
        run("users", "import", "--realm=bench", str(people), "--yes")
        sent = run("--json", "send", *(f"u{n:05}" for n in range(o.links))).splitlines()
        links = [urlsplit(json.loads(line)["url"]).path for line in sent]
        print(f"\n{store}\n\n| step of the page | median | 99th percentile |\n|---|---|---|")
        page(links)
        file = folder / "tokens.xml"
        packages = (WRAPPED.format(serial=f"T{n:07}", seed=base64.b64encode(secrets.token_bytes(20)).decode()) for n in range(o.tokens))
        file.write_text('<KeyContainer Version="1.0" xmlns="urn:ietf:params:xml:ns:keyprov:pskc">' + "".join(packages) + "</KeyContainer>")
        for what in ("imported", "all known"):
            clock, _, memory = measured([*command, "hard-tokens", "import", file])
            print(f"\n{o.tokens:,} tokens {what}: {clock:.2f} s, {memory:.0f} MiB of the command", flush=True)
    finally:
        daemon.terminate()
        daemon.wait()
        if server:
            subprocess.run([LAB / "postgres", "stop", "--dir", server, "--purge"], stdout=subprocess.DEVNULL)


def main():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("--links", type=int, default=300)
    a.add_argument("--tokens", type=int, default=10_000)
    a.add_argument("--store", choices=("sqlite", "postgres"), action="append")
    o = a.parse_args()
    if not BINARY.exists():
        sys.exit(f"{BINARY} is not there: cargo build --release")
    for store in o.store or ["sqlite", "postgres"]:
        folder = Path(tempfile.mkdtemp(prefix="realmsync-bench-"))
        folder.chmod(0o755)
        try:
            bench(store, o, folder)
        finally:
            shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
