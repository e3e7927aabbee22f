"""Tokens: what is accepted, and that everything else gets the same refusal."""

import base64
import json
import re
from collections.abc import Callable
from dataclasses import FrozenInstanceError
from datetime import UTC, datetime, timedelta
from typing import get_args
from uuid import UUID, uuid4

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from newel.errors import ConfigurationError, Unauthorized
from newel.tokens import (
    AccessTokens,
    Algorithm,
    KeyRing,
    Purpose,
    RefreshTokens,
    Sealer,
    Signer,
    new_secret,
)

OLD = "the-old-secret-of-the-tests-0123456789"
NEW = "the-new-secret-of-the-tests-0123456789"
SUB = UUID("01890000-0000-7000-8000-000000000001")
SID = UUID("01890000-0000-7000-8000-000000000002")
START = datetime(2026, 11, 21, 12, 0, 0, 250_000, tzinfo=UTC)
ALGORITHMS: tuple[Algorithm, ...] = ("HS256", "EdDSA")


class MovedClock:
    def __init__(self) -> None:
        self.time = START

    def now(self) -> datetime:
        return self.time

    def move(self, **by: float) -> None:
        self.time += timedelta(**by)


@pytest.fixture
def clock() -> MovedClock:
    return MovedClock()


@pytest.fixture
def keys() -> KeyRing:
    return KeyRing(OLD)


def access_tokens(keys: KeyRing, clock: MovedClock, **changes) -> AccessTokens:
    settings = {"issuer": "agents", "audience": "agents-api", "clock": clock, **changes}
    return AccessTokens(keys, **settings)


@pytest.fixture(params=ALGORITHMS)
def tokens(request: pytest.FixtureRequest, keys: KeyRing, clock: MovedClock) -> AccessTokens:
    return access_tokens(keys, clock, algorithm=request.param)


def encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def decoded(segment: str) -> dict:
    return json.loads(base64.urlsafe_b64decode(segment + "=" * (-len(segment) % 4)))


def message_of(refusal: pytest.ExceptionInfo[Unauthorized]) -> tuple:
    return refusal.value.status, refusal.value.code, refusal.value.detail, refusal.value.headers


class TestKeyRing:
    def test_every_purpose_has_a_key_of_its_own(self, keys: KeyRing) -> None:
        derived = {keys.derive(purpose) for purpose in get_args(Purpose)}
        assert len(derived) == len(get_args(Purpose))

    def test_processes_that_share_a_secret_agree(self, keys: KeyRing) -> None:
        other = KeyRing(SecretStr(OLD))
        assert other.kid == keys.kid
        assert other.derive("cursor") == keys.derive("cursor")

    def test_derivation_never_changes(self, keys: KeyRing) -> None:
        """A release that derives differently logs everybody out: this must be a decision."""
        assert keys.kid == "cc69e553ea28cd73"
        assert (
            keys.derive("access").hex()
            == "a30fa69c956641650b63ecee68b1f807201bb660f9354ccf9f2efde0bc711ac4"
        )

    def test_rotation_signs_with_the_newest_and_keeps_the_older(self, keys: KeyRing) -> None:
        rotated = KeyRing(NEW, previous=[OLD])
        assert rotated.kid != keys.kid
        assert rotated.kids == (rotated.kid, keys.kid)
        assert rotated.derive("refresh", kid=keys.kid) == keys.derive("refresh")
        assert rotated.derive("refresh") != keys.derive("refresh")

    def test_a_short_key_is_not_the_beginning_of_a_long_one(self, keys: KeyRing) -> None:
        long = keys.derive("upload", length_bytes=64)
        assert len(long) == 64
        assert not long.startswith(keys.derive("upload", length_bytes=32))

    def test_the_same_secret_twice_counts_once(self) -> None:
        assert len(KeyRing(OLD, previous=[OLD]).kids) == 1

    def test_an_unknown_kid_is_a_key_error(self, keys: KeyRing) -> None:
        with pytest.raises(KeyError):
            keys.derive("access", kid="../../etc/passwd")

    @pytest.mark.parametrize("previous", [False, True])
    def test_a_short_secret_stops_the_start_up_with_the_fix(self, *, previous: bool) -> None:
        short = "x" * 31
        with pytest.raises(ConfigurationError, match="31 bytes") as refusal:
            KeyRing(NEW, previous=[short]) if previous else KeyRing(short)
        assert "newel keys new" in refusal.value.fix
        assert short not in str(refusal.value)

    def test_32_bytes_are_enough(self) -> None:
        assert KeyRing("ä" * 16).kid

    def test_it_does_not_show_its_secrets(self) -> None:
        ring = KeyRing(NEW, previous=[OLD])
        assert NEW not in repr(ring)
        assert OLD not in repr(ring)
        assert ring.kid in repr(ring)

    def test_new_secrets_are_long_and_differ(self) -> None:
        assert len({new_secret() for _ in range(10)}) == 10
        assert len(new_secret()) == 64
        assert KeyRing(new_secret()).kid


class TestAccessTokens:
    def test_says_what_it_was_issued_for(self, tokens: AccessTokens) -> None:
        claims = tokens.verify(tokens.issue(SUB, sid=SID, epoch=3))
        assert (claims.sub, claims.sid, claims.epoch, claims.type) == (SUB, SID, 3, "access")
        assert claims.iat == START.replace(microsecond=0)
        assert claims.exp == claims.iat + timedelta(minutes=15)

    def test_carries_the_claims_the_design_names(self, tokens: AccessTokens) -> None:
        header, payload, _ = tokens.issue(SUB, sid=SID, epoch=0).split(".")
        assert set(decoded(payload)) == {
            *("iss", "aud", "sub", "sid", "epoch", "jti", "iat", "exp", "type")
        }
        assert decoded(header) == {
            "alg": tokens.algorithm,
            "kid": KeyRing(OLD).kid,
            "typ": "at+jwt",
        }

    def test_each_has_an_id_of_its_own(self, tokens: AccessTokens) -> None:
        first, second = (tokens.issue(SUB, sid=SID, epoch=0) for _ in range(2))
        assert tokens.verify(first).jti != tokens.verify(second).jti

    def test_claims_cannot_be_changed(self, tokens: AccessTokens) -> None:
        claims = tokens.verify(tokens.issue(SUB, sid=SID, epoch=0))
        with pytest.raises(FrozenInstanceError):
            claims.epoch = 7

    def test_expires_to_the_second_also_when_it_was_verified_before(
        self, tokens: AccessTokens, clock: MovedClock
    ) -> None:
        token = tokens.issue(SUB, sid=SID, epoch=0)
        clock.time = START.replace(microsecond=0) + timedelta(minutes=14, seconds=59)
        assert tokens.verify(token).sub == SUB
        clock.move(seconds=1)
        with pytest.raises(Unauthorized):
            tokens.verify(token)

    def test_a_process_whose_clock_is_a_little_behind_accepts(
        self, tokens: AccessTokens, clock: MovedClock
    ) -> None:
        token = tokens.issue(SUB, sid=SID, epoch=0)
        clock.move(seconds=-30)
        assert tokens.verify(token).sub == SUB
        clock.move(seconds=-1)
        with pytest.raises(Unauthorized):
            tokens.verify(token)

    def test_lowering_the_lifetime_ends_longer_tokens(
        self, keys: KeyRing, clock: MovedClock
    ) -> None:
        token = access_tokens(keys, clock).issue(SUB, sid=SID, epoch=0)
        shorter = access_tokens(keys, clock, lifetime=timedelta(minutes=5))
        with pytest.raises(Unauthorized):
            shorter.verify(token)

    def test_rotation_keeps_old_tokens_until_the_old_secret_goes(
        self, tokens: AccessTokens, clock: MovedClock
    ) -> None:
        old_token = tokens.issue(SUB, sid=SID, epoch=0)
        rotated = access_tokens(KeyRing(NEW, previous=[OLD]), clock, algorithm=tokens.algorithm)
        new_token = rotated.issue(SUB, sid=SID, epoch=0)
        assert rotated.verify(old_token).sub == SUB
        assert rotated.verify(new_token).sub == SUB
        assert jwt.get_unverified_header(new_token)["kid"] == KeyRing(NEW).kid
        done = access_tokens(KeyRing(NEW), clock, algorithm=tokens.algorithm)
        assert done.verify(new_token).sub == SUB
        with pytest.raises(Unauthorized):
            done.verify(old_token)

    def test_takes_the_machines_clock_by_default(self, keys: KeyRing) -> None:
        tokens = AccessTokens(keys, issuer="agents", audience="agents-api")
        claims = tokens.verify(tokens.issue(SUB, sid=SID, epoch=0))
        assert abs(claims.iat - datetime.now(UTC)) < timedelta(seconds=10)

    def test_the_signature_of_a_token_is_checked_once(
        self, tokens: AccessTokens, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        token = tokens.issue(SUB, sid=SID, epoch=0)
        first = tokens.verify(token)
        monkeypatch.setattr(jwt, "decode", lambda *_, **__: pytest.fail("checked again"))
        assert tokens.verify(token) is first

    def test_remembers_a_bounded_number(self, keys: KeyRing, clock: MovedClock) -> None:
        tokens = access_tokens(keys, clock, remembered=3)
        for _ in range(10):
            tokens.verify(tokens.issue(SUB, sid=SID, epoch=0))
        assert tokens._proved.cache_info().currsize == 3


class TestJwks:
    def test_others_verify_with_the_published_key(self, keys: KeyRing, clock: MovedClock) -> None:
        tokens = access_tokens(keys, clock, algorithm="EdDSA")
        (published,) = tokens.jwks()["keys"]
        claims = jwt.decode(
            tokens.issue(SUB, sid=SID, epoch=0),
            jwt.PyJWK(published).key,
            algorithms=["EdDSA"],
            audience="agents-api",
            options={"verify_exp": False, "verify_iat": False},
        )
        assert claims["sub"] == str(SUB)
        assert published["kid"] == keys.kid

    def test_publishes_every_key_of_the_ring_and_nothing_private(self, clock: MovedClock) -> None:
        ring = KeyRing(NEW, previous=[OLD])
        published = access_tokens(ring, clock, algorithm="EdDSA").jwks()["keys"]
        assert tuple(key["kid"] for key in published) == ring.kids
        assert all(set(key) == {"kty", "crv", "x", "kid", "use", "alg"} for key in published)

    def test_hs256_publishes_nothing(self, keys: KeyRing, clock: MovedClock) -> None:
        assert access_tokens(keys, clock).jwks() == {"keys": []}


class Forger:
    """Makes tokens that differ from an honest one in what an attack changes.

    It signs with the real key unless told otherwise: a check behind the signature is only tested
    by a token whose signature is good.
    """

    def __init__(self, tokens: AccessTokens, keys: KeyRing) -> None:
        self.tokens, self.keys = tokens, keys
        self.honest = tokens.issue(SUB, sid=SID, epoch=0)
        self.header, self.payload, self.signature = self.honest.split(".")

    def sign(self, signing_input: str, key: bytes | None = None) -> str:
        if self.tokens.algorithm == "HS256":
            secret = key or self.keys.derive("access")
            algorithm = jwt.get_algorithm_by_name("HS256")
            return encoded(algorithm.sign(signing_input.encode(), secret))
        seed = key or self.keys.derive("access-ed25519")
        return encoded(Ed25519PrivateKey.from_private_bytes(seed).sign(signing_input.encode()))

    def token(self, *, header=None, without=(), key: bytes | None = None, **claims) -> str:
        head = {**decoded(self.header), **(header or {})}
        body = {**decoded(self.payload), **claims}
        head, body = ({k: v for k, v in d.items() if k not in without} for d in (head, body))
        signing_input = f"{encoded(json.dumps(head).encode())}.{encoded(json.dumps(body).encode())}"
        return f"{signing_input}.{self.sign(signing_input, key)}"


@pytest.fixture
def forger(tokens: AccessTokens, keys: KeyRing) -> Forger:
    return Forger(tokens, keys)


def unsigned(name: str) -> Callable[[Forger], str]:
    return lambda f: f.token(header={"alg": name}).rpartition(".")[0] + "."


def confused(f: Forger) -> str:
    """HS256 with the public key, which everybody knows, as its secret."""
    public = Ed25519PrivateKey.from_private_bytes(f.keys.derive("access-ed25519")).public_key()
    secret = public.public_bytes(Encoding.Raw, PublicFormat.Raw)
    head = encoded(json.dumps({**decoded(f.header), "alg": "HS256"}).encode())
    mac = jwt.get_algorithm_by_name("HS256").sign(f"{head}.{f.payload}".encode(), secret)
    return f"{head}.{f.payload}.{encoded(mac)}"


def own_key(f: Forger) -> str:
    """Sign with the attacker's key and send that along."""
    key = Ed25519PrivateKey.generate()
    jwk = {"kty": "OKP", "crv": "Ed25519", "x": encoded(key.public_key().public_bytes_raw())}
    return f.token(header={"jwk": jwk}, key=key.private_bytes_raw())


def other_algorithm(f: Forger) -> str:
    """Good under the same ring, but signed as the service is not set up to."""
    other = "EdDSA" if f.tokens.algorithm == "HS256" else "HS256"
    same = AccessTokens(
        f.keys, algorithm=other, issuer="agents", audience="agents-api", clock=f.tokens._clock
    )
    return same.issue(SUB, sid=SID, epoch=0)


HOUR = 3600
NOW = int(START.timestamp())
ATTACKS: dict[str, Callable[[Forger], str]] = {
    # The signature
    "algorithm none": unsigned("none"),
    "algorithm nOnE": unsigned("nOnE"),
    "algorithm empty": unsigned(""),
    "algorithm hs256": lambda f: f.token(header={"alg": f.tokens.algorithm.lower()}),
    "algorithm HS512": lambda f: f.token(header={"alg": "HS512"}),
    "algorithm a list": lambda f: f.token(header={"alg": ["HS256"]}),
    "public key as secret": confused,
    "the other algorithm": other_algorithm,
    "no algorithm": lambda f: f.token(without=["alg"]),
    "no signature": lambda f: f"{f.header}.{f.payload}.",
    "signature of another token": lambda f: f"{f.token(epoch=9).rpartition('.')[0]}.{f.signature}",
    "signature of zeros": lambda f: f"{f.header}.{f.payload}.{encoded(bytes(64))}",
    "signature cut": lambda f: f.honest[:-1],
    "signature padded": lambda f: f.honest + "=",
    "signature with spare bits set": lambda f: f.honest[:-1] + chr(ord(f.honest[-1]) + 1),
    "signature with junk": lambda f: f.honest[:-4] + "!" + f.honest[-4:],
    "payload changed": lambda f: f"{f.header}.{encoded(b'{}')}.{f.signature}",
    **{
        f"key of purpose {purpose}": lambda f, purpose=purpose: f.token(key=f.keys.derive(purpose))
        for purpose in get_args(Purpose)
        if not purpose.startswith("access")
    },
    "secret itself as key": lambda f: f.token(key=OLD.encode()[:32]),
    # Where the key is, and how to read on
    "own key in jwk": own_key,
    "own key in jku": lambda f: f.token(header={"jku": "https://evil.example/k"}, key=b"k" * 32),
    "jku beside a good signature": lambda f: f.token(header={"jku": "https://evil.example/k"}),
    "x5u beside a good signature": lambda f: f.token(header={"x5u": "https://evil.example/k"}),
    "unknown crit": lambda f: f.token(header={"crit": ["exp2"], "exp2": 1}),
    "unencoded payload": lambda f: f.token(header={"crit": ["b64"], "b64": False}),
    "kid of nobody": lambda f: f.token(header={"kid": "0" * 16}),
    "kid as a path": lambda f: f.token(header={"kid": "../../../../dev/null"}, key=b"\0" * 32),
    "kid as SQL": lambda f: f.token(header={"kid": "x' UNION SELECT 'key"}, key=b"k" * 32),
    "kid a number": lambda f: f.token(header={"kid": 1}),
    "kid a list": lambda f: f.token(header={"kid": [f.keys.kid]}),
    "kid null": lambda f: f.token(header={"kid": None}),
    "no kid": lambda f: f.token(without=["kid"]),
    "typ JWT": lambda f: f.token(header={"typ": "JWT"}),
    "typ of a log-out token": lambda f: f.token(header={"typ": "logout+jwt"}),
    "no typ": lambda f: f.token(without=["typ"]),
    # The claims, behind a good signature
    **{f"no {c}": lambda f, c=c: f.token(without=[c]) for c in AccessTokens._CLAIMS},
    **{f"null {c}": lambda f, c=c: f.token(**{c: None}) for c in AccessTokens._CLAIMS},
    "type refresh": lambda f: f.token(type="refresh"),
    "other issuer": lambda f: f.token(iss="somebody-else"),
    "issuer a list": lambda f: f.token(iss=["agents"]),
    "other audience": lambda f: f.token(aud="another-api"),
    "audience a list with ours": lambda f: f.token(aud=["agents-api", "another-api"]),
    "expired": lambda f: f.token(iat=NOW - HOUR, exp=NOW - HOUR + 900),
    "expires far away": lambda f: f.token(exp=NOW + 10 * 365 * 24 * HOUR),
    "expires beyond time": lambda f: f.token(exp=2**62),
    "expires after the universe": lambda f: f.token(exp=10**400),
    "expires at infinity": lambda f: f.token(exp=float("inf")),
    "expires at a text": lambda f: f.token(exp=str(NOW + 900)),
    "expires at a fraction": lambda f: f.token(exp=NOW + 900.5),
    "issued in the future": lambda f: f.token(iat=NOW + HOUR, exp=NOW + HOUR + 900),
    "issued before time": lambda f: f.token(iat=-1),
    "not before the future": lambda f: f.token(nbf=NOW + HOUR),
    "sub not a UUID": lambda f: f.token(sub="1"),
    "sub a number": lambda f: f.token(sub=1),
    "sub in braces": lambda f: f.token(sub=f"{{{SUB}}}"),
    "sub in capitals": lambda f: f.token(sub=str(UUID(int=2**128 - 1)).upper()),
    "sid not a UUID": lambda f: f.token(sid="' OR 1=1"),
    "sid a list": lambda f: f.token(sid=[str(SID)]),
    "jti a number": lambda f: f.token(jti=7),
    "epoch true": lambda f: f.token(epoch=True),
    "epoch negative": lambda f: f.token(epoch=-1),
    "epoch a text": lambda f: f.token(epoch="0"),
    # The form
    "empty": lambda f: "",
    "one dot": lambda f: f"{f.header}.{f.payload}",
    "two dots": lambda f: "..",
    "a dot twice": lambda f: f"{f.header}..{f.payload}.{f.signature}",
    "a dot at the end": lambda f: f.honest + ".",
    "five parts": lambda f: f"{f.honest}.x.y",
    "a line feed at the end": lambda f: f.honest + "\n",
    "a space before": lambda f: " " + f.honest,
    "a NUL": lambda f: f.honest + "\0",
    "not ASCII": lambda f: f.honest[:-1] + "é",
    "100 KB": lambda f: f.token(junk="x" * 100_000),
    "a little over 4 KiB": lambda f: f.token(junk="x" * 3000),
    "header not JSON": lambda f: f"{encoded(b'{alg')}.{f.payload}.{f.signature}",
    "header a list": lambda f: f"{encoded(b'[]')}.{f.payload}.{f.signature}",
    "header nested deeply": lambda f: f"{encoded(b'[' * 2900)}.{f.payload}.{f.signature}",
    "payload a list": lambda f: (
        f"{f.header}.{encoded(b'[]')}.{f.sign(f.header + '.' + encoded(b'[]'))}"
    ),
    "a refresh token": lambda f: RefreshTokens(f.keys).issue(SID, 0),
    "a signed cursor": lambda f: Signer(f.keys, "cursor").sign(b"page 2"),
    "signed by a Signer of the purpose": lambda f: (
        f"{f.header}.{f.payload}."
        + Signer(f.keys, "access").sign(f"{f.header}.{f.payload}".encode()).rpartition(".")[2]
    ),
}


class TestAttacksOnAccessTokens:
    def test_control_what_the_forger_makes_is_accepted_without_an_attack(
        self, forger: Forger
    ) -> None:
        assert forger.tokens.verify(forger.token()).sub == SUB
        assert forger.tokens.verify(forger.token(iat=NOW - 60, exp=NOW + 60)).sub == SUB
        # What a later release may add is let pass.
        assert forger.tokens.verify(forger.token(scope="agents:read")).sub == SUB
        assert forger.tokens.verify(forger.token(junk="x" * 2000)).sub == SUB

    @pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
    def test_is_refused_in_the_same_words(
        self, attack: Callable[[Forger], str], forger: Forger
    ) -> None:
        with pytest.raises(Unauthorized) as reference:
            forger.tokens.verify("nonsense")
        forged = attack(forger)
        for _ in range(2):  # a refusal is not remembered as a success
            with pytest.raises(Unauthorized) as refusal:
                forger.tokens.verify(forged)
            assert message_of(refusal) == message_of(reference)
        assert refusal.value.__cause__ is not None

    def test_a_big_token_is_refused_before_anything_parses_it(
        self, forger: Forger, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(jwt, "get_unverified_header", lambda _: pytest.fail("was parsed"))
        with pytest.raises(Unauthorized):
            forger.tokens.verify(forger.token(junk="x" * 100_000))

    @given(st.text(alphabet=st.characters(codec="utf-8"), max_size=200))
    def test_no_text_makes_another_error(self, text: str) -> None:
        tokens = access_tokens(KeyRing(OLD), MovedClock())
        with pytest.raises(Unauthorized):
            tokens.verify(text)

    @given(
        st.dictionaries(
            st.sampled_from(AccessTokens._CLAIMS),
            st.none()
            | st.booleans()
            | st.integers()
            | st.floats()
            | st.text()
            | st.lists(st.none()),
            min_size=1,
        )
    )
    def test_no_claims_make_another_error(self, changes: dict) -> None:
        keys, clock = KeyRing(OLD), MovedClock()
        tokens = access_tokens(keys, clock)
        forged = Forger(tokens, keys).token(**changes)
        try:
            claims = tokens.verify(forged)
        except Unauthorized:
            return
        # Only what another honest token could have said is accepted.
        assert claims.sub == SUB
        assert set(changes) <= {"epoch", "iat", "exp"}
        assert timedelta(0) < claims.exp - START <= claims.exp - claims.iat + timedelta(seconds=30)


class TestRefreshTokens:
    @given(st.uuids(), st.integers(0, 9_999_999_999))
    def test_reads_what_it_issued(self, sid: UUID, counter: int) -> None:
        refresh = RefreshTokens(KeyRing(OLD))
        assert refresh.read(refresh.issue(sid, counter)) == (sid, counter)

    @pytest.mark.parametrize("counter", [-1, 10_000_000_000])
    def test_a_counter_out_of_range_is_the_callers_mistake(
        self, keys: KeyRing, counter: int
    ) -> None:
        with pytest.raises(ValueError, match="counter"):
            RefreshTokens(keys).issue(SID, counter)

    def test_rotation(self, keys: KeyRing) -> None:
        old = RefreshTokens(keys).issue(SID, 4)
        rotated = RefreshTokens(KeyRing(NEW, previous=[OLD]))
        assert rotated.read(old) == (SID, 4)
        with pytest.raises(Unauthorized):
            RefreshTokens(KeyRing(NEW)).read(rotated.issue(SID, 4)[:-1] + old[-1])
        with pytest.raises(Unauthorized):
            RefreshTokens(KeyRing(NEW)).read(old)

    @pytest.mark.parametrize(
        "attack",
        {
            "empty": lambda sid, counter, mac: "",
            "another session": lambda sid, counter, mac: f"{uuid4().hex}.{counter}.{mac}",
            "another counter": lambda sid, counter, mac: f"{sid}.8.{mac}",
            "leading zero": lambda sid, counter, mac: f"{sid}.07.{mac}",
            "signed counter": lambda sid, counter, mac: f"{sid}.+7.{mac}",
            "other digits": lambda sid, counter, mac: f"{sid}.\N{ARABIC-INDIC DIGIT SEVEN}.{mac}",
            "moved dot": lambda sid, counter, mac: f"{sid}7..{mac}",
            "no mac": lambda sid, counter, mac: f"{sid}.{counter}.",
            "cut": lambda sid, counter, mac: f"{sid}.{counter}.{mac[:-1]}",
            "spare bits": lambda sid, counter, mac: f"{sid}.7.{mac[:-1]}{chr(ord(mac[-1]) + 1)}",
            "padded": lambda sid, counter, mac: f"{sid}.{counter}.{mac}=",
            "line feed": lambda sid, counter, mac: f"{sid}.{counter}.{mac}\n",
            "capitals": lambda sid, counter, mac: f"{sid.upper()}.{counter}.{mac}",
            "100 KB": lambda sid, counter, mac: f"{sid}.{'7' * 100_000}.{mac}",
            "not ASCII": lambda sid, counter, mac: f"{sid}.{counter}.{mac[:-1]}é",
            "signed as a cursor": lambda sid, counter, mac: (
                f"{sid}.{counter}."
                + Signer(KeyRing(OLD), "cursor").sign(f"{sid}.{counter}".encode())[-43:]
            ),
            "signed by a Signer of the purpose": lambda sid, counter, mac: (
                f"{sid}.{counter}."
                + Signer(KeyRing(OLD), "refresh").sign(f"{sid}.{counter}".encode())[-43:]
            ),
            "an access token": lambda sid, counter, mac: access_tokens(
                KeyRing(OLD), MovedClock()
            ).issue(SUB, sid=SID, epoch=0),
        }.values(),
    )
    def test_forgeries_are_refused_in_the_same_words(
        self, keys: KeyRing, attack: Callable[[str, str, str], str]
    ) -> None:
        refresh = RefreshTokens(keys)
        sid, counter, mac = refresh.issue(UUID(int=0xABCDEF << 100), 7).split(".")
        assert refresh.read(f"{sid}.{counter}.{mac}")[1] == 7  # the control
        with pytest.raises(Unauthorized) as reference:
            refresh.read("nonsense")
        with pytest.raises(Unauthorized) as refusal:
            refresh.read(attack(sid, counter, mac))
        assert message_of(refusal) == message_of(reference)

    def test_says_the_same_as_a_bad_access_token(self, keys: KeyRing, clock: MovedClock) -> None:
        with pytest.raises(Unauthorized) as refresh:
            RefreshTokens(keys).read("x")
        with pytest.raises(Unauthorized) as access:
            access_tokens(keys, clock).verify("x")
        assert message_of(refresh) == message_of(access)


class TestSealer:
    @given(st.binary(max_size=300), st.binary(max_size=40))
    def test_opens_what_it_sealed(self, plain: bytes, context: bytes) -> None:
        sealer = Sealer(KeyRing(OLD), "webhook")
        sealed = sealer.seal(plain, context=context)
        assert sealer.open(sealed, context=context) == plain
        assert len(sealed) == len(plain) + 28
        assert sealed != sealer.seal(plain, context=context), "equal texts must not look equal"

    def test_nobody_reads_it(self, keys: KeyRing) -> None:
        assert b"hunter2" not in Sealer(keys, "webhook").seal(b"hunter2", context=b"1")

    def test_another_row_or_purpose_does_not_open_it(self, keys: KeyRing) -> None:
        sealed = Sealer(keys, "webhook").seal(b"secret", context=b"row 1")
        with pytest.raises(ValueError, match="not sealed here"):
            Sealer(keys, "webhook").open(sealed, context=b"row 2")
        with pytest.raises(ValueError, match="not sealed here"):
            Sealer(keys, "idempotency").open(sealed, context=b"row 1")

    def test_rotation(self, keys: KeyRing) -> None:
        sealed = Sealer(keys, "webhook").seal(b"secret", context=b"1")
        rotated = Sealer(KeyRing(NEW, previous=[OLD]), "webhook")
        assert rotated.open(sealed, context=b"1") == b"secret"
        with pytest.raises(ValueError, match="not sealed here"):
            Sealer(KeyRing(NEW), "webhook").open(sealed, context=b"1")

    def test_a_changed_one_does_not_open(self, keys: KeyRing) -> None:
        sealer = Sealer(keys, "webhook")
        sealed = sealer.seal(b"secret", context=b"1")
        for at in range(len(sealed)):
            changed = sealed[:at] + bytes([sealed[at] ^ 1]) + sealed[at + 1 :]
            with pytest.raises(ValueError, match="not sealed here"):
                sealer.open(changed, context=b"1")
        for length in range(len(sealed)):
            with pytest.raises(ValueError):  # noqa: PT011 - of a few bytes, AESGCM's own
                sealer.open(sealed[:length], context=b"1")


class TestSigner:
    @given(st.binary(max_size=3000))
    def test_reads_what_it_signed(self, payload: bytes) -> None:
        signer = Signer(KeyRing(OLD), "cursor")
        signed = signer.sign(payload)
        assert signer.read(signed) == payload
        assert re.fullmatch(r"[A-Za-z0-9_.-]+", signed), "must fit into an address as it is"

    def test_another_purpose_does_not_read_it(self, keys: KeyRing) -> None:
        with pytest.raises(ValueError, match="not signed here"):
            Signer(keys, "upload").read(Signer(keys, "cursor").sign(b"x"))

    def test_rotation(self, keys: KeyRing) -> None:
        signed = Signer(keys, "cursor").sign(b"x")
        assert Signer(KeyRing(NEW, previous=[OLD]), "cursor").read(signed) == b"x"
        with pytest.raises(ValueError, match="not signed here"):
            Signer(KeyRing(NEW), "cursor").read(signed)

    def test_a_payload_has_a_bound(self, keys: KeyRing) -> None:
        with pytest.raises(ValueError, match="3,000"):
            Signer(keys, "cursor").sign(b"x" * 3001)

    def test_a_big_text_is_refused_by_its_size(self, keys: KeyRing) -> None:
        with pytest.raises(ValueError, match="not a signed payload"):
            Signer(keys, "cursor").read(f"{'A' * 100_000}.{'A' * 43}")
        with pytest.raises(ValueError, match="not signed here"):
            Signer(keys, "cursor").read(f"{'A' * 4000}.{'A' * 43}")  # the control

    @pytest.mark.parametrize(
        "change",
        [
            lambda body, mac: "",
            lambda body, mac: body,
            lambda body, mac: f".{mac}",
            lambda body, mac: f"{body}.",
            lambda body, mac: f"{body[:-1]}.{mac}",
            lambda body, mac: f"{body[:-1]}{chr(ord(body[-1]) + 1)}.{mac}",  # spare bits
            lambda body, mac: f"{body}A.{mac}",
            lambda body, mac: f"{body}AAAA.{mac}",
            lambda body, mac: f"{body}=.{mac}",
            lambda body, mac: f"{body}.{mac}\n",
            lambda body, mac: f"{body}.{mac[:-1]}é",
        ],
    )
    def test_forgeries_are_value_errors(
        self, keys: KeyRing, change: Callable[[str, str], str]
    ) -> None:
        signer = Signer(keys, "cursor")
        body, mac = signer.sign(b"7 bytes").split(".")
        assert signer.read(f"{body}.{mac}") == b"7 bytes"  # the control
        with pytest.raises(ValueError, match="sign"):
            signer.read(change(body, mac))


def test_the_public_key_is_not_the_secret_of_hs256(keys: KeyRing) -> None:
    """Both are made from the purpose 'access': they must share nothing."""
    seed = keys.derive("access-ed25519")
    public: Ed25519PublicKey = Ed25519PrivateKey.from_private_bytes(seed).public_key()
    assert keys.derive("access") not in {seed, public.public_bytes_raw()}
