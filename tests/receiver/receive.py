#!/usr/bin/env python3
"""A small receiver of webhooks: checks the Standard Webhooks signature, prints each message and keeps it in a file.

A message that was received before (the same `webhook-id`) is answered like the first time and counted once: the sender
delivers at least once, so every real receiver must do the same. One that is not signed rightly is answered with 401,
upon which the sender tries again later."""
import argparse
import base64
import hashlib
import hmac
import json
import os
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

TOLERANCE = 300          # seconds between the sender's clock and ours, as Standard Webhooks proposes
LARGEST = 1 << 20        # bytes of a message


def secret_of(text):
    """The key's bytes of `whsec_…`."""
    text = text.strip()
    if not text.startswith("whsec_"):
        sys.exit("receive.py: the secret does not begin with whsec_")
    return base64.b64decode(text[len("whsec_"):], validate=True)


def fault_of(headers, body, key, now):
    """Why a message is not to be believed; None: it is."""
    ident, stamp = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    if not ident or not stamp.isdecimal():
        return "no webhook-id or webhook-timestamp"
    if abs(now - int(stamp)) > TOLERANCE:
        return "a timestamp too far from now"
    wanted = hmac.new(key, f"{ident}.{stamp}.".encode() + body, hashlib.sha256).digest()
    for given in headers.get("webhook-signature", "").split():
        version, _, signature = given.partition(",")
        try:
            if version == "v1" and hmac.compare_digest(base64.b64decode(signature, validate=True), wanted):
                return None
        except ValueError:
            continue
    return "no signature that fits"


def in_words(message):
    """One message in some lines for people."""
    data = message.get("data", {})
    user = data.get("user", {})
    lines = [f"{message.get('type')}: {user.get('display_name') or user.get('username')} ({user.get('username')}, {data.get('realm')})"]
    for key, what in (("reason", "reason"), ("previous_phone", "old number"), ("previous_username", "old name"), ("enrolment_url", "enrolment")):
        if data.get(key):
            lines.append(f"    {what:<11}{data[key]}")
    if user.get("phone"):
        lines.insert(1, f"    {'number':<11}{user['phone']}")
    return "\n".join(lines)


class Receiver(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        length = self.headers.get("content-length", "")
        if not length.isdecimal() or int(length) > LARGEST:
            self.close_connection = True
            return self.answer(413 if length.isdecimal() else 411)
        body = self.rfile.read(int(length))
        fault = fault_of(self.headers, body, self.server.key, time.time())
        if fault:
            print(f"refused: {fault}", flush=True)
            return self.answer(401)
        try:
            message = json.loads(body)
        except ValueError:
            print("refused: no JSON", flush=True)
            return self.answer(400)
        self.server.take(self.headers["webhook-id"], message)
        return self.answer(204)

    def do_GET(self):
        self.answer(405)

    def answer(self, status):
        self.send_response(status)
        if status != 204:
            self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, port, key, keep):
        super().__init__(("127.0.0.1", port), Receiver)
        self.key, self.keep, self.lock, self.seen = key, keep, threading.Lock(), set()
        if os.path.exists(keep):
            with open(keep, encoding="utf-8") as lines:
                self.seen = {json.loads(line)["id"] for line in lines}

    def take(self, ident, message):
        with self.lock:
            if ident in self.seen:
                print(f"again: {message.get('type')} {ident}", flush=True)
                return
            # Kept first, answered afterwards: what was acknowledged is there after a crash.
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
            with open(os.open(self.keep, flags, 0o600), "w", encoding="utf-8") as out:
                out.write(json.dumps({"id": ident, "message": message}, ensure_ascii=False) + "\n")
            self.seen.add(ident)
            print(f"{time.strftime('%H:%M:%S')} {in_words(message)}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=0, help="on 127.0.0.1; 0 picks a free one")
    parser.add_argument("--port-file", help="the port is written here once it listens")
    parser.add_argument("--secret-file", required=True, help="a file with whsec_…")
    parser.add_argument("--keep", required=True, metavar="FILE", help="messages as JSON lines {id, message}")
    options = parser.parse_args()
    with open(options.secret_file, encoding="ascii") as file:
        key = secret_of(file.read())
    server = Server(options.port, key, options.keep)
    if options.port_file:
        with open(options.port_file + ".new", "w", encoding="ascii") as file:
            file.write(f"{server.server_address[1]}\n")
        os.replace(options.port_file + ".new", options.port_file)
    print(f"listening on http://127.0.0.1:{server.server_address[1]}", flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    main()
