#!/usr/bin/env python3
"""Tries the receiver: with the example of the Standard Webhooks specification, and over HTTP."""
import base64
import hashlib
import hmac
import http.client
import json
import sys
import tempfile
import threading
import time
import unittest
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.dont_write_bytecode = True
import receive  # noqa: E402

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def headers(body, ident="msg_1", stamp=None, secret=SECRET):
    stamp = str(int(time.time()) if stamp is None else stamp)
    signature = hmac.new(receive.secret_of(secret), f"{ident}.{stamp}.".encode() + body, hashlib.sha256).digest()
    return {"webhook-id": ident, "webhook-timestamp": stamp, "webhook-signature": "v1," + base64.b64encode(signature).decode()}


class Signature(unittest.TestCase):
    def fault(self, given, body=b"{}", now=None):
        return receive.fault_of(given, body, receive.secret_of(SECRET), now or time.time())

    def test_the_specification_s_example(self):
        given = {"webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek", "webhook-timestamp": "1614265330",
                 "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="}
        self.assertIsNone(self.fault(given, b'{"test": 2432232314}', 1614265330))

    def test_any_of_several_signatures_will_do(self):
        given = headers(b"{}")
        given["webhook-signature"] = "v1,bm9uZQ== v2,x " + given["webhook-signature"]
        self.assertIsNone(self.fault(given))

    def test_what_is_not_believed(self):
        self.assertIn("signature", self.fault(headers(b"{ }")))
        self.assertIn("signature", self.fault(headers(b"{}", secret="whsec_b3RoZXI=")))
        self.assertIn("signature", self.fault({**headers(b"{}"), "webhook-id": "other"}))
        self.assertIn("signature", self.fault({**headers(b"{}"), "webhook-signature": "v1,***"}))
        self.assertIn("timestamp", self.fault(headers(b"{}", stamp=int(time.time()) - 1000)))
        self.assertIn("webhook-id", self.fault({}))


class OverHttp(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.keep = Path(self.folder.name) / "messages.jsonl"
        self.server = receive.Server(0, receive.secret_of(SECRET), str(self.keep))
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.said = StringIO()

    def tearDown(self):
        self.server.shutdown()
        self.server.server_close()
        self.folder.cleanup()

    def post(self, body, given):
        connection = http.client.HTTPConnection("127.0.0.1", self.server.server_address[1], timeout=5)
        with redirect_stdout(self.said):
            connection.request("POST", "/", body, given)
            status = connection.getresponse().status
        connection.close()
        return status

    def test_a_message_is_kept_once_and_shown(self):
        body = json.dumps({"type": "user.reprovision", "data": {"reason": "phone_changed", "realm": "example.org", "previous_phone": "+421905654321",
                           "user": {"username": "jan", "display_name": "Ján", "phone": "+421905123456"}}}).encode()
        self.assertEqual([self.post(body, headers(body)) for _ in range(2)], [204, 204])
        kept = [json.loads(line) for line in self.keep.read_text().splitlines()]
        self.assertEqual([(k["id"], k["message"]["type"]) for k in kept], [("msg_1", "user.reprovision")])
        self.assertEqual(self.keep.stat().st_mode & 0o777, 0o600)
        for part in ("user.reprovision: Ján (jan, example.org)", "+421905123456", "+421905654321", "again: user.reprovision msg_1"):
            self.assertIn(part, self.said.getvalue())

    def test_what_is_refused(self):
        self.assertEqual(self.post(b"{}", {}), 401)
        self.assertEqual(self.post(b"{", headers(b"{")), 400)
        self.assertFalse(self.keep.exists())


if __name__ == "__main__":
    unittest.main()
