"""Passwords: right ones match, wrong ones do not, nobody waits for ever, and time tells nothing."""

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator
from importlib import resources
from statistics import median

import bcrypt
import pytest
from argon2 import PasswordHasher, extract_parameters
from pydantic import BaseModel, SecretStr, ValidationError

from newel.errors import Invalid, Unavailable
from newel.passwords import NewPassword, Passwords, check_strength

GOOD = "wooden stairs turn left"


@pytest.fixture
async def passwords() -> AsyncIterator[Passwords]:
    made = Passwords(threads=2)
    yield made
    made.close()


def old_bcrypt(password: bytes) -> str:
    return bcrypt.hashpw(password[:72], bcrypt.gensalt(4)).decode()


@pytest.mark.anyio
class TestHashing:
    async def test_the_right_password_matches_and_no_other(self, passwords: Passwords) -> None:
        hashed = await passwords.hash(GOOD)
        right = await passwords.verify(GOOD, hashed)
        assert right.ok
        assert right.rehash is None
        for wrong in ("", GOOD + " ", GOOD.upper(), GOOD[:-1], hashed):
            assert not (await passwords.verify(wrong, hashed)).ok

    async def test_is_argon2id_with_the_parameters_of_the_design(
        self, passwords: Passwords
    ) -> None:
        hashed = await passwords.hash(GOOD)
        assert hashed.startswith("$argon2id$v=19$m=19456,t=2,p=1$")

    async def test_the_same_password_has_another_hash_each_time(self, passwords: Passwords) -> None:
        assert await passwords.hash(GOOD) != await passwords.hash(GOOD)

    async def test_takes_secrets_as_they_come_from_a_schema(self, passwords: Passwords) -> None:
        hashed = await passwords.hash(SecretStr(GOOD))
        assert (await passwords.verify(SecretStr(GOOD), hashed)).ok
        assert (await passwords.verify(GOOD, hashed)).ok
        assert not (await passwords.verify("**********", hashed)).ok

    @pytest.mark.parametrize(
        "password",
        [
            "pässwörter 密码 🔑",
            "with\0nul-inside",
            "x" * 256,
            "🔑" * 256,
            "lone \ud800 half",
            " " * 8,
        ],
    )
    async def test_no_text_is_changed_or_cut(self, passwords: Passwords, password: str) -> None:
        hashed = await passwords.hash(password)
        assert (await passwords.verify(password, hashed)).ok
        assert not (await passwords.verify(password[:-1] + "#", hashed)).ok
        assert not (await passwords.verify(password.partition("\0")[0] + "#", hashed)).ok

    async def test_composed_and_decomposed_letters_differ(self, passwords: Passwords) -> None:
        hashed = await passwords.hash("caf\N{LATIN SMALL LETTER E WITH ACUTE} au lait")
        decomposed = "cafe\N{COMBINING ACUTE ACCENT} au lait"
        assert not (await passwords.verify(decomposed, hashed)).ok


@pytest.mark.anyio
class TestOldHashes:
    @pytest.mark.parametrize("prefix", ["$2b$", "$2a$", "$2y$"])
    async def test_a_bcrypt_hash_verifies_and_is_upgraded(
        self, passwords: Passwords, prefix: str
    ) -> None:
        old = old_bcrypt(GOOD.encode()).replace("$2b$", prefix)
        right = await passwords.verify(GOOD, old)
        assert right.ok
        assert right.rehash is not None
        assert right.rehash.startswith("$argon2id$")
        assert await passwords.verify(GOOD, right.rehash) == type(right)(ok=True)

    async def test_a_wrong_password_upgrades_nothing(self, passwords: Passwords) -> None:
        wrong = await passwords.verify("wrong password", old_bcrypt(GOOD.encode()))
        assert (wrong.ok, wrong.rehash) == (False, None)

    async def test_beyond_the_72_bytes_of_bcrypt(self, passwords: Passwords) -> None:
        long = "ä" * 100
        right = await passwords.verify(long, old_bcrypt(long.encode()))
        assert right.ok
        # What is stored from now on is of the whole password.
        assert right.rehash is not None
        assert not (await passwords.verify("ä" * 99, right.rehash)).ok
        assert not (await passwords.verify("b" * 200, old_bcrypt(long.encode()))).ok

    async def test_weaker_argon2_is_upgraded(self, passwords: Passwords) -> None:
        weak = PasswordHasher(time_cost=1, memory_cost=1024, parallelism=1).hash(GOOD)
        right = await passwords.verify(GOOD, weak)
        assert right.ok
        assert right.rehash is not None
        assert extract_parameters(right.rehash).memory_cost == 19_456

    @pytest.mark.parametrize(
        "unusable",
        [
            "",
            "!",
            GOOD,
            "$argon2id$v=19$m=19456,t=2,p=1$broken",
            "$2x$04$" + "a" * 53,
            "$2b$99$" + "a" * 53,
            "$pbkdf2-sha256$29000$abc$def",
        ],
    )
    async def test_what_is_no_hash_matches_no_password(
        self, passwords: Passwords, unusable: str
    ) -> None:
        for password in (GOOD, "", unusable):
            assert not (await passwords.verify(password, unusable)).ok


@pytest.mark.anyio
class TestUnknownAccounts:
    async def test_no_password_is_right(self, passwords: Passwords) -> None:
        assert (await passwords.verify(GOOD, None)) == await passwords.verify(
            "wrong password", await passwords.hash(GOOD)
        )

    async def test_take_the_time_of_known_ones(self) -> None:
        """Interleaved pairs; the ratio of the medians of CPU time, threads included.

        Three tries, because the machine is shared.
        """
        passwords = Passwords(threads=1)
        hashed = await passwords.hash(GOOD)

        async def ratio() -> float:
            known, unknown = [], []
            for _ in range(15):
                for times, stored in ((known, hashed), (unknown, None)):
                    started = time.process_time()
                    await passwords.verify("wrong password", stored)
                    times.append(time.process_time() - started)
            return median(unknown) / median(known)

        ratios = []
        for _ in range(3):
            ratios.append(await ratio())
            if 1 / 1.1 <= ratios[-1] <= 1.1:
                break
        else:
            pytest.fail(f"unknown accounts took {ratios} times as long as known ones")
        passwords.close()

    async def test_unusable_hashes_cost_the_same_work(
        self, passwords: Passwords, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        verified: list[str] = []
        real = passwords._argon2.verify
        monkeypatch.setattr(
            passwords._argon2,
            "verify",
            lambda password, hashed: verified.append(hashed) or real(password, hashed),
        )
        for stored in (None, "!", await passwords.hash(GOOD)):
            await passwords.verify("wrong password", stored)
        costs = [extract_parameters(each) for each in verified]
        assert costs == [costs[0]] * 3


@pytest.mark.anyio
class TestThreads:
    async def test_the_event_loop_goes_on_meanwhile(self, passwords: Passwords) -> None:
        hashing = asyncio.gather(*(passwords.hash(GOOD) for _ in range(10)))
        turns = 0
        while not hashing.done():
            turns += 1
            await asyncio.sleep(0)
        assert turns > 100  # hashed on the loop, there would be one or two for each

    async def test_when_the_queue_is_full_the_answer_comes_at_once(self) -> None:
        passwords = Passwords(threads=1, queue=2)
        waiting = [asyncio.ensure_future(passwords.hash(GOOD)) for _ in range(3)]
        await asyncio.sleep(0)
        with pytest.raises(Unavailable) as refusal:
            await passwords.verify(GOOD, None)
        assert refusal.value.headers["Retry-After"]
        # Nobody who had a place lost it, and there is room again afterwards.
        assert all(hashed.startswith("$argon2id$") for hashed in await asyncio.gather(*waiting))
        assert (await passwords.verify(GOOD, await waiting[0])).ok
        passwords.close()

    async def test_by_default_32_wait(self) -> None:
        passwords = Passwords(threads=1)
        outcomes = await asyncio.gather(
            *(passwords.hash(GOOD) for _ in range(40)), return_exceptions=True
        )
        assert sum(isinstance(outcome, Unavailable) for outcome in outcomes) == 40 - 33
        passwords.close()

    async def test_callers_that_go_away_leave_their_place(self) -> None:
        passwords = Passwords(threads=1, queue=2)
        for _ in range(5):
            leaving = [asyncio.ensure_future(passwords.hash(GOOD)) for _ in range(3)]
            await asyncio.sleep(0)
            for task in leaving:
                task.cancel()
            outcomes = await asyncio.gather(*leaving, return_exceptions=True)
            assert all(isinstance(outcome, asyncio.CancelledError) for outcome in outcomes)
            # What a thread has begun it ends; then every place is free.
            await passwords.hash(GOOD)
        assert await asyncio.gather(*(passwords.hash(GOOD) for _ in range(3)))
        passwords.close()

    async def test_an_error_frees_its_place(self, monkeypatch: pytest.MonkeyPatch) -> None:
        passwords = Passwords(threads=1, queue=0)
        with monkeypatch.context() as broken:
            broken.setattr("newel.tasks.ThreadPoolExecutor", lambda *_: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                await passwords.hash(GOOD)
        assert await passwords.hash(GOOD)
        passwords.close()

    async def test_threads_start_with_the_first_use_and_end_with_close(self) -> None:
        def ours() -> set[threading.Thread]:
            return {each for each in threading.enumerate() if each.name.startswith("newel-pass")}

        others = ours()  # of tests before, on their way out
        passwords = Passwords()
        passwords.close()  # nothing to close yet
        assert ours() <= others
        hashed = await passwords.hash(GOOD)
        started = ours() - others
        assert started
        passwords.close()
        for thread in started:
            await asyncio.to_thread(thread.join, 10)
            assert not thread.is_alive()
        # A test client starts and stops an application more than once.
        assert (await passwords.verify(GOOD, hashed)).ok
        passwords.close()


def broken_rules(password: str, **options) -> list[str]:
    try:
        check_strength(password, **options)
    except Invalid as refusal:
        return [error.code for error in refusal.errors]
    return []


class TestStrength:
    @pytest.mark.parametrize(
        "password", [GOOD, "nine chrs", "x" * 255 + "y", "密码密码密码密码", "🔑🔒🔑🔒🔑🔒🔑🔒"]
    )
    def test_good_ones_pass(self, password: str) -> None:
        assert broken_rules(password) == []

    @pytest.mark.parametrize(
        ("password", "code"),
        [
            ("", "password_too_short"),
            ("7 chars", "password_too_short"),
            ("x" * 257, "password_too_long"),
            ("nul\0inside it", "password_nul"),
            ("password", "password_common"),
            ("PassWord", "password_common"),
            ("12345678", "password_common"),
            ("trustno1", "password_common"),
        ],
    )
    def test_bad_ones_are_refused_by_the_rule_they_break(self, password: str, code: str) -> None:
        assert broken_rules(password) == [code]

    def test_the_error_does_not_repeat_the_password(self) -> None:
        for password in ("dragon\0", "12345678", "dragonfly" * 40):
            with pytest.raises(Invalid) as refusal:
                check_strength(password, composition=True, personal=["dragonfly"])
            assert password not in f"{refusal.value} {refusal.value.errors}"

    def test_every_broken_rule_is_named(self) -> None:
        assert broken_rules("ann\0", composition=True, personal=["ann\0"]) == [
            "password_too_short",
            "password_nul",
            "password_personal",
            "password_composition",
        ]

    def test_the_error_names_the_field(self) -> None:
        with pytest.raises(Invalid) as refusal:
            check_strength(SecretStr("short"), pointer="#/new_password")
        (error,) = refusal.value.errors
        assert error.pointer == "#/new_password"
        assert "8 characters" in error.message

    @pytest.mark.parametrize(
        ("password", "refused"),
        [
            ("myname-is-smith", True),
            ("SMITHereens", True),
            ("i-am-anna.smith!", True),
            ("example.org forever", False),  # the domain is not personal
            ("manna from heaven", True),  # "anna" stands in it: four letters count
            ("co-operation now", False),  # "co" does not
            (GOOD, False),
        ],
    )
    def test_nothing_personal(self, password: str, *, refused: bool) -> None:
        personal = ["Anna.Smith+co@example.org"]
        assert broken_rules(password, personal=personal) == ["password_personal"] * refused
        assert broken_rules(password) == []

    @pytest.mark.parametrize("personal", [[""], ["@"], ["a@b.c"], ["@example.org"], []])
    def test_too_little_personal_refuses_nothing(self, personal: list[str]) -> None:
        assert broken_rules(GOOD, personal=personal) == []

    @pytest.mark.parametrize(
        ("password", "composed"),
        [("UPPERlower9", True), ("lower 9999", False), ("UPPER 9999", False), ("NoDigits!", False)],
    )
    def test_composition_only_where_it_is_switched_on(
        self, password: str, *, composed: bool
    ) -> None:
        assert broken_rules(password) == []
        expected = [] if composed else ["password_composition"]
        assert broken_rules(password, composition=True) == expected

    def test_the_list_is_what_it_says(self) -> None:
        text = resources.files("newel").joinpath("common_passwords.txt").read_text("utf-8")
        assert "zxcvbn" in text.splitlines()[0]
        assert "MIT" in text.splitlines()[0]
        words = [line for line in text.splitlines() if not line.startswith("#")]
        assert len(words) == len(set(words)) == 3000
        assert all(len(word) >= 8 and word == word.casefold() for word in words)


class Registration(BaseModel):
    password: NewPassword


class TestNewPassword:
    @pytest.mark.parametrize("password", ["12345678", "x" * 256, "🔑" * 8])
    def test_takes_8_to_256_characters(self, password: str) -> None:
        registration = Registration.model_validate_json(json.dumps({"password": password}))
        assert registration.password.get_secret_value() == password

    @pytest.mark.parametrize(
        "password", ["", "7 chars", "x" * 257, "nul\0inside it", None, 12345678]
    )
    def test_refuses_the_rest(self, password: object) -> None:
        with pytest.raises(ValidationError):
            Registration.model_validate({"password": password})

    def test_is_never_printed(self) -> None:
        registration = Registration.model_validate({"password": GOOD})
        assert GOOD not in repr(registration) + registration.model_dump_json()

    def test_the_api_docs_show_its_bounds(self) -> None:
        shown = Registration.model_json_schema()["properties"]["password"]
        assert (shown["minLength"], shown["maxLength"]) == (8, 256)
        assert shown["format"] == "password"
        assert shown["writeOnly"] is True
        assert shown["pattern"] == r"^[^\x00]*$"
