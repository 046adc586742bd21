"""How tasks run, as options of the command line and as variables."""

from __future__ import annotations

import pytest

from muster.cli.task_options import TaskOptions
from muster.mesh.errors import UsageError


def test_where_http_tasks_may_connect_to_is_an_option_and_a_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUSTER_HTTP_DENY", "127.0.0.0/8, *.example.com")
    given = TaskOptions(http_allow=("127.0.0.2", "::1"))
    settings = given.settings()
    assert settings["http_allow"] == ("127.0.0.2", "::1")
    assert settings["http_deny"] == ("127.0.0.0/8", "*.example.com")
    assert given.arguments() == ["--http-allow", "127.0.0.2", "--http-allow", "::1"]
    monkeypatch.setenv("MUSTER_HTTP_DENY", "http://example.com")
    with pytest.raises(UsageError, match=r"^--http-deny: 'http://example.com' is not a network"):
        given.settings()
