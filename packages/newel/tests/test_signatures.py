"""What is signed here the specification's own library accepts, and the other way round."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from newel.clock import utc_now
from newel.errors import BadRequest
from newel.signatures import show_secret, sign, verify_webhook


class TestSigning:
    BODY = b'{"type": "x"}'

    def test_the_library_proves_it(self) -> None:
        headers = sign([b"0" * 32], "msg_1", self.BODY, at=utc_now())
        Webhook(show_secret(b"0" * 32)).verify(self.BODY, headers)
        with pytest.raises(WebhookVerificationError):
            Webhook(show_secret(b"1" * 32)).verify(self.BODY, headers)
        with pytest.raises(WebhookVerificationError):
            Webhook(show_secret(b"0" * 32)).verify(self.BODY + b" ", headers)

    def test_by_each_of_several_secrets(self) -> None:
        headers = sign([b"0" * 32, b"1" * 32], "msg_1", self.BODY, at=utc_now())
        for secret in (b"0" * 32, b"1" * 32):
            Webhook(show_secret(secret)).verify(self.BODY, headers)


class TestVerifying:
    SECRET = "whsec_" + "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    BODY = json.dumps({"type": "x"}).encode()

    def signed(self, **changes: str) -> dict[str, str]:
        signature = Webhook(self.SECRET).sign("msg_1", utc_now(), self.BODY.decode())
        headers = {
            "webhook-id": "msg_1",
            "webhook-timestamp": str(int(utc_now().timestamp())),
            "webhook-signature": signature,
        }
        return headers | changes

    def test_what_the_library_signs_is_proved(self) -> None:
        assert verify_webhook(self.SECRET, self.signed(), self.BODY) == "msg_1"

    def test_one_of_several_signatures_is_enough(self) -> None:
        good = self.signed()["webhook-signature"]
        both = self.signed(**{"webhook-signature": f"v1,AAAA {good} v1a,x"})
        assert verify_webhook(self.SECRET, both, self.BODY) == "msg_1"

    @pytest.mark.parametrize(
        "changes",
        [
            {"webhook-id": "msg_2"},
            {"webhook-id": ""},
            {"webhook-timestamp": "1"},
            {"webhook-timestamp": "x"},
            {"webhook-timestamp": "9" * 30},
            {"webhook-timestamp": "nan"},
            {"webhook-signature": ""},
            {"webhook-signature": "v1"},
            {"webhook-signature": "v1,"},
            {"webhook-signature": "v1,\udcff"},
            {"webhook-signature": "v2,AAAA"},
        ],
    )
    def test_anything_else_is_refused_in_the_same_words(self, changes: dict[str, str]) -> None:
        with pytest.raises(BadRequest) as caught:
            verify_webhook(self.SECRET, self.signed(**changes), self.BODY)
        assert caught.value.detail == "The webhook is not signed by its sender, or it is too old."

    @pytest.mark.parametrize("missing", ["webhook-id", "webhook-timestamp", "webhook-signature"])
    def test_a_header_that_is_missing(self, missing: str) -> None:
        headers = self.signed()
        del headers[missing]
        with pytest.raises(BadRequest):
            verify_webhook(self.SECRET, headers, self.BODY)

    def test_another_body_or_secret(self) -> None:
        for secret, body in ((self.SECRET, b"{}"), ("whsec_AAAA", self.BODY), ("?", self.BODY)):
            with pytest.raises(BadRequest):
                verify_webhook(secret, self.signed(), body)

    @pytest.mark.parametrize(
        ("minutes", "is_good"), [(-4, True), (4, True), (-6, False), (6, False)]
    )
    def test_five_minutes_is_the_most(self, minutes: int, *, is_good: bool) -> None:
        at = utc_now()
        headers = sign([b"0" * 24], "msg_1", self.BODY, at=at)
        secret = "MDAw" * 8
        now = at + timedelta(minutes=minutes)
        if is_good:
            assert verify_webhook(secret, headers, self.BODY, now=now) == "msg_1"
        else:
            with pytest.raises(BadRequest):
                verify_webhook(secret, headers, self.BODY, now=now)
