"""The file of tokens: what it says, how it is made, and when it is read again."""

import hashlib
import logging
import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from faultlane_server.cli import app
from faultlane_server.service.tokens import (
    BadTokens,
    Role,
    TokenFile,
    add_token,
    line_of,
    new_token,
    parse_tokens,
)

HERE = Path("tokens")
SECRET = "faultlane_what-nobody-may-read"


def hashed(secret: str) -> str:
    return "sha256:" + hashlib.sha256(secret.encode()).hexdigest()


def replace(path: Path, content: str) -> None:
    """Change a file as an editor does."""
    draft = path.with_suffix(".draft")
    draft.write_text(content)
    os.replace(draft, path)


def problems_of(content: str) -> list[str]:
    with pytest.raises(BadTokens) as caught:
        parse_tokens(content, HERE)
    return [line.removeprefix("tokens: ") for line in str(caught.value).splitlines()]


def test_a_token_is_found_by_its_hash_and_by_nothing_else() -> None:
    tokens = parse_tokens(f"# us\n\nalice submit {hashed(SECRET)}  # the first\n", HERE)

    found = tokens.find(SECRET)

    assert found is not None
    assert (found.name, found.role) == ("alice", Role.SUBMIT)
    for wrong in ("", SECRET + "x", SECRET[:-1], hashed(SECRET), "alice", "ä\0\udcff"):
        assert tokens.find(wrong) is None


def test_every_token_is_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """No comparison is left out after a match, and none ends at the first byte that differs."""
    compared: list[bytes] = []
    lines = [line_of(f"name{n}", Role.READ, f"secret{n}") for n in range(5)]
    tokens = parse_tokens("\n".join(lines), HERE)

    def compare(a: bytes, b: bytes) -> bool:
        compared.append(a)
        return a == b

    monkeypatch.setattr("hmac.compare_digest", compare)
    for secret in ("secret0", "secret4", "wrong"):
        compared.clear()
        tokens.find(secret)
        assert len(compared) == 5


def test_several_tokens_of_one_name_are_for_the_same_simulations() -> None:
    tokens = parse_tokens(
        f"ci submit {hashed('old')} queued_max=3\nci submit {hashed('new')} streams_max=2", HERE
    )

    assert [token.name for token in tokens.all] == ["ci", "ci"]
    assert tokens.quotas["ci"] == {"queued_max": 3, "streams_max": 2}


def test_all_that_is_wrong_with_a_file_is_told_and_none_of_what_it_holds() -> None:
    lines = [
        f"alice boss {SECRET}",
        f"everybody read {hashed('a')}",
        f"bob read {hashed('b')} queued_max=0 lifes=9",
        f"bob read {hashed('b')} streams_max=1",
        f"bob read {hashed('c')} streams_max=2",
        f"{SECRET}/",
    ]

    problems = problems_of("\n".join(lines))

    assert [problem.split(": want ")[0] for problem in problems] == [
        "line 1: role",
        "line 1: hash",
        "line 2: name",
        "line 3: quota",
        "line 3: quota",
        "line 4: hash",
        "line 5: streams_max",
        "line 6: name",
        "line 6: role",
        "line 6: hash",
    ]
    assert SECRET not in str(problems)


@pytest.mark.parametrize("content", ["", "# nobody\n\n"])
def test_a_file_without_tokens_is_a_mistake_and_locks_nobody_out(content: str) -> None:
    assert "want a token, got none" in problems_of(content)[0]


def test_a_file_that_everybody_may_write_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "tokens"
    add_token(path, "alice", Role.READ)
    path.chmod(0o666)

    with pytest.raises(BadTokens, match="everybody may write"):
        TokenFile(path)


def test_a_file_is_read_again_when_it_has_changed(tmp_path: Path) -> None:
    path = tmp_path / "tokens"
    first = add_token(path, "alice", Role.SUBMIT)
    tokens = TokenFile(path)
    second = add_token(path, "bob", Role.READ)

    assert tokens.now.find(first)
    found = tokens.now.find(second)
    assert found is not None
    assert (found.name, found.role) == ("bob", Role.READ)

    replace(path, line_of("bob", Role.READ, second))
    assert tokens.now.find(first) is None
    assert tokens.now.find(second)


@pytest.mark.parametrize("broken", ["nonsense " + SECRET, "", None], ids=["bad", "empty", "gone"])
def test_a_file_that_breaks_leaves_the_tokens_and_is_logged_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, broken: str | None
) -> None:
    path = tmp_path / "tokens"
    secret = add_token(path, "alice", Role.SUBMIT)
    tokens = TokenFile(path)
    if broken is None:
        path.unlink()
    else:
        replace(path, broken)

    with caplog.at_level(logging.ERROR):
        assert all(tokens.now.find(secret) for _ in range(3))

    assert caplog.text.count("the tokens stay as they were") == 1
    assert SECRET not in caplog.text
    replace(path, line_of("bob", Role.READ, "another"))
    assert tokens.now.find(secret) is None
    assert tokens.now.find("another")


def test_the_command_prints_a_token_once_and_keeps_its_hash(tmp_path: Path) -> None:
    path = tmp_path / "tokens"
    call = ["token", "alice", "--tokens", str(path), "--role", "read"]

    first, second = (CliRunner().invoke(app, call) for _ in range(2))

    assert first.exit_code == second.exit_code == 0
    secrets = [outcome.stdout.strip() for outcome in (first, second)]
    assert len(set(secrets)) == 2
    assert not any(secret in path.read_text() for secret in secrets)
    tokens = TokenFile(path).now
    assert [tokens.find(secret) for secret in secrets] == list(tokens.all)
    assert {token.role for token in tokens.all} == {Role.READ}
    assert path.stat().st_mode & 0o777 == 0o600
    assert [each.name for each in tmp_path.iterdir()] == ["tokens"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["a b", "--role", "read"], "letters, digits"),
        (["../../etc/passwd"], "letters, digits"),
        (["everybody"], "letters, digits"),
        (["alice", "--role", "king"], "read, submit or admin"),
    ],
)
def test_the_command_refuses_what_would_break_the_file(
    tmp_path: Path, arguments: list[str], said: str
) -> None:
    path = tmp_path / "tokens"
    add_token(path, "bob", Role.READ)
    before = path.read_text()

    outcome = CliRunner().invoke(app, ["token", *arguments, "--tokens", str(path)])

    assert outcome.exit_code in (1, 2)
    assert said in outcome.output
    assert path.read_text() == before


def test_tokens_cannot_be_guessed_and_are_not_shown() -> None:
    secrets = [new_token() for _ in range(100)]

    assert len(set(secrets)) == 100
    assert all(len(secret) >= 43 for secret in secrets)
    tokens = parse_tokens(line_of("alice", Role.READ, secrets[0]), HERE)
    assert repr(tokens.all[0]) == "Token(alice, READ)"
