"""`matrix eval` where files, servers and people are at odds with it: nothing stale is scored, nothing secret is told."""

import pytest
from openai_server import OpenAiServer
from test_eval import drawn, evaluate, everything_under, root  # noqa: F401 (fixtures)


@pytest.mark.parametrize("mode, status", [("escaping", 1), ("echoing", 0)])
def test_a_key_that_the_server_escapes_is_struck_out(evaluate, tmp_path, mode, status):  # noqa: F811
    key = "sk-ab/cd+0123456789=="
    with OpenAiServer(lambda request, number: mode) as server:
        result = evaluate("questions", server, key=key)
        assert result.returncode == status and server.keys == {f"Bearer {key}"}
    written = everything_under(tmp_path) + (result.stdout + result.stderr).encode()
    assert b"***" in written
    for text in (key, key.replace("/", "\\/")):
        assert text.encode() not in written
