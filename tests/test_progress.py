"""The bar shows what it is told on a terminal, and nothing elsewhere."""

import io

import pytest
from rich import console as rich_console

from lorascope.progress import bar


@pytest.mark.parametrize("terminal", [True, False])
def test_the_bar_is_drawn_on_terminals_only(monkeypatch, terminal):
    stream = io.StringIO()
    plain = rich_console.Console
    monkeypatch.setattr(rich_console, "Console", lambda **_: plain(file=stream, force_terminal=terminal, width=120))
    with bar("Refining") as progress:
        progress(0.25, "Adam")
        progress(1.0, "writing")
    assert ("Refining: writing" in stream.getvalue()) is terminal
    assert ("100%" in stream.getvalue()) is terminal


def failing():
    with bar() as progress:
        progress(0.1, "Adam")
        raise ValueError("stop")


def test_an_error_inside_comes_through():
    with pytest.raises(ValueError, match="stop"):
        failing()
