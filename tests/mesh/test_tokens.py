"""Tokens: made once, kept private, and shown to the address that they belong to."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muster.mesh.errors import MusterError, RefusedError, UnauthorizedError, UsageError
from muster.mesh.tokens import API, NATS, Door, Token, announced, environment, find, own, without_tokens

URL = "http://127.0.0.1:8642"
SERVER = "nats://127.0.0.1:4222"
MAKE = """
import pathlib, sys
from muster.mesh.tokens import NATS, own
print(own(NATS, pathlib.Path(sys.argv[1]), "").text)
"""


@pytest.fixture(autouse=True)
def nothing_given(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("MUSTER_TOKEN", "MUSTER_TOKEN_FILE", "MUSTER_NATS_TOKEN", "MUSTER_NATS_TOKEN_FILE", "MUSTER_CONTEXT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


def folder(tmp_path: Path, name: str = "data") -> Path:
    made = tmp_path / name
    made.mkdir(mode=0o700, exist_ok=True)
    return made


def test_a_token_is_made_once_and_for_its_account_alone(tmp_path: Path) -> None:
    data = folder(tmp_path)
    made = own(API, data, URL)
    assert made is not None
    assert len(made.text) >= 32
    assert stat.S_IMODE((data / "api.token").stat().st_mode) == 0o600
    assert own(API, data, URL) == made
    assert made.text not in repr(made)
    nats = own(NATS, data, SERVER)
    assert nats is not None
    assert nats.text != made.text
    assert sorted(path.name for path in data.iterdir()) == ["api.token", "nats.token"]


def test_roles_that_start_at_once_make_one_token(tmp_path: Path) -> None:
    data = folder(tmp_path)
    started = [subprocess.Popen([sys.executable, "-c", MAKE, str(data)], stdout=subprocess.PIPE) for _ in range(6)]
    reported = {process.communicate(timeout=50)[0] for process in started}
    assert reported == {(data / "nats.token").read_bytes()}


@pytest.mark.parametrize(("door", "variable"), [(API, "MUSTER_TOKEN"), (NATS, "MUSTER_NATS_TOKEN")])
def test_what_the_environment_gives_comes_first_and_nothing_is_made(
    door: Door, variable: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    data, file, credentials = folder(tmp_path), tmp_path / "file", folder(tmp_path, "credentials")
    (credentials / door.file).write_text("credential\n")
    file.write_text("filed\n")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(credentials))
    assert own(door, data, "") == Token("credential", str(credentials / door.file))
    monkeypatch.setenv(f"{variable}_FILE", str(file))
    assert own(door, data, "") == Token("filed", str(file))
    monkeypatch.setenv(variable, "given")
    assert own(door, data, "") == find(door, "http://anywhere:1", data) == Token("given", variable)
    assert list(data.iterdir()) == []
    with pytest.raises(UsageError, match="--open"):
        own(door, data, "", is_open=True)


def test_open_makes_none(tmp_path: Path) -> None:
    data = folder(tmp_path)
    assert own(API, data, URL, is_open=True) is None
    assert list(data.iterdir()) == []


def test_a_token_is_found_at_its_address_while_the_door_is_open_and_nowhere_else(tmp_path: Path) -> None:
    data, other = folder(tmp_path), folder(tmp_path, "other")
    token = own(API, data, URL)
    assert find(API, URL, data) is None
    with announced(API, token, data, "http://0.0.0.0:8642"):
        for url in (URL, f"{URL}/", "http://localhost:8642"):
            assert find(API, url, other) == token, "by the link"
            assert find(API, url, data) == token
        for url in (
            "http://127.0.0.1:8643",
            "http://127.0.0.2:8642",
            "http://mesh.example:8642",
            "nonsense",
            "http://[",
        ):
            assert find(API, url, data) is None
        assert find(NATS, "nats://127.0.0.1:8642", data) is None
    assert find(API, URL, data) is find(API, URL, other) is None
    assert sorted(path.name for path in data.iterdir()) == ["api.token"]
    assert list((tmp_path / "state" / "muster").iterdir()) == []


def test_the_last_mesh_at_an_address_is_the_one_that_is_found(tmp_path: Path) -> None:
    first, second = folder(tmp_path, "first"), folder(tmp_path, "second")
    left, token = announced(API, own(API, first, URL), first, URL), own(API, second, URL)
    left.__enter__()  # killed: it never says that it has gone
    with announced(API, token, second, URL):
        assert find(API, URL, folder(tmp_path)) == token


def test_a_cluster_is_shown_a_token_only_if_it_is_that_of_every_server(tmp_path: Path) -> None:
    data = folder(tmp_path)
    token = own(NATS, data, SERVER)
    with announced(NATS, token, data, SERVER):
        assert find(NATS, f"{SERVER}, nats://localhost:4222", data) == token
        assert find(NATS, f"{SERVER},nats://elsewhere:4222", data) is None


def test_a_token_that_was_given_is_not_looked_for_in_the_folder(tmp_path: Path) -> None:
    data = folder(tmp_path)
    kept = own(API, data, URL)
    with announced(API, kept, data, URL), announced(API, Token("given", "MUSTER_TOKEN"), data, URL):
        assert find(API, URL, data) is None


def test_a_context_s_token_is_for_the_address_of_the_context(tmp_path: Path) -> None:
    (tmp_path / "config" / "muster").mkdir(parents=True)
    (tmp_path / "lab.token").write_text("of-nats")
    (tmp_path / "config" / "muster" / "config.toml").write_text(
        f'current = "lab"\n[contexts.lab]\napi = "http://lab:8642"\ntoken = "of-http"\n'
        f'server = "nats://lab:4222"\nnats_token_file = "{tmp_path}/lab.token"\n'
    )
    data = folder(tmp_path)
    assert find(API, "http://lab:8642", data) == Token("of-http", "the context's token")
    assert find(NATS, "nats://lab:4222", data) == Token("of-nats", str(tmp_path / "lab.token"))
    assert find(API, "http://other:8642", data) is find(NATS, "nats://other:4222", data) is None
    assert own(API, data, URL) == Token((data / "api.token").read_text().strip(), str(data / "api.token"), os.geteuid())


@pytest.mark.parametrize(
    ("content", "mode", "error", "word"),
    [
        (b"fine", 0o644, RefusedError, "others can read"),
        (b"", 0o600, UnauthorizedError, "no token in it"),
        (b"two words", 0o600, UsageError, "is not a token"),
        (b"\xff\xfe", 0o600, UsageError, "is not a token"),
        (b"x" * 5000, 0o600, UsageError, "is not a token"),
    ],
)
def test_a_file_that_is_no_token_is_refused_by_its_name(
    content: bytes, mode: int, error: type[MusterError], word: str, tmp_path: Path
) -> None:
    data = folder(tmp_path)
    path = data / "api.token"
    path.write_bytes(content)
    path.chmod(mode)
    with pytest.raises(error, match=word) as reported:
        own(API, data, URL)
    assert str(path) in str(reported.value)


def test_a_link_in_the_place_of_a_token_is_refused(tmp_path: Path) -> None:
    data = folder(tmp_path)
    (tmp_path / "planted").write_text("known")
    (data / "api.token").symlink_to(tmp_path / "planted")
    with pytest.raises(RefusedError, match=r"api\.token"):
        own(API, data, URL)


def test_a_folder_that_cannot_be_written_is_reported_in_words() -> None:
    with pytest.raises(RefusedError, match="choose another folder"):
        own(API, Path("/proc/self"), URL)


def test_a_role_that_is_started_gets_only_what_it_is_given(tmp_path: Path) -> None:
    env = {"PATH": "/bin", "MUSTER_TOKEN": "a", "MUSTER_NATS_TOKEN_FILE": "b", "CREDENTIALS_DIRECTORY": "c"}
    assert without_tokens(env) == {"PATH": "/bin"}
    assert environment(API, Token("text", "MUSTER_TOKEN")) == {"MUSTER_TOKEN": "text"}
    assert environment(NATS, own(NATS, tmp_path, SERVER)) == {"MUSTER_NATS_TOKEN_FILE": f"{tmp_path}/nats.token"}
    assert environment(NATS, None) == {}


@given(st.text(max_size=60))
def test_no_address_breaks_the_search(tmp_path_factory: pytest.TempPathFactory, address: str) -> None:
    assert find(API, address, tmp_path_factory.getbasetemp()) is None
