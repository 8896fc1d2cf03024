"""`mmrec-teach whatif` up to the browser: what it refuses, what it writes, and which setting an address opens."""

from __future__ import annotations

import importlib.util
import json
import socket
from urllib.parse import urlsplit

import pytest

from mmrec_teach.cli import main
from mmrec_teach.cli import whatif as command
from mmrec_teach.views import app
from mmrec_teach.views.panel import WhatIf
from mmrec_teach.views.setting import Setting


@pytest.fixture
def served(monkeypatch):
    """Remember what would be served instead of serving it."""
    calls = []

    def serve(notebook, port, browser):
        calls.append({"cell": json.loads(notebook.read_text(encoding="utf-8"))["cells"], "port": port, "file": notebook})

    monkeypatch.setattr(command, "serve", serve)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, find=importlib.util.find_spec: name == "voila" or find(name))
    return calls


def test_it_writes_one_cell_and_leaves_no_file(served, capsys):
    assert main(["whatif", "bpr", "--setting", "bpr?l2=0.02&seed=3", "--no-browser"]) == 0
    (call,) = served
    (cell,) = call["cell"]
    assert "page('bpr', None, 'bpr?l2=0.02&seed=3')" in "".join(cell["source"])
    assert call["port"] >= command.FIRST_PORT
    assert not call["file"].parent.exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["no-such-model"], "unknown model"),
        (["random"], "nothing to train"),
        (["--setting", "lightgcn?n_layrs=2"], "'n_layrs'"),
        (["--setting", "lightgcn?l2=much"], "weight is no number"),
        (["vbpr", "--setting", "bpr?l2=0.1"], "two models"),
        (["--data", "no/such/folder"], "no/such/folder"),
        (["--data", "bazaar/garden", "--setting", "bpr?l2=0.1"], "the setting is of other data"),
        (["--port", "99999"], "port out of range"),
    ],
)
def test_what_cannot_be_opened_is_one_sentence_in_the_terminal(served, capsys, words, said):
    assert main(["whatif", "--no-browser", *words]) == 2
    captured = capsys.readouterr()
    assert said in captured.err
    assert "Traceback" not in captured.err
    assert not served


def test_a_taken_port_and_a_missing_voila_are_sentences(served, monkeypatch, capsys):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        assert main(["whatif", "--port", str(taken.getsockname()[1])]) == 2
    assert "is in use" in capsys.readouterr().err
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert main(["whatif"]) == 2
    assert "pip install 'mmrec_teach[app]'" in capsys.readouterr().err
    assert not served


def test_an_address_names_a_setting_and_nothing_gets_lost():
    setting = Setting.from_text("lightgcn?l2=0.01&seed=3&data.without=image&l2@120=0.1")
    query = urlsplit(setting.link("http://127.0.0.1:8866/?token=abc")).query
    assert Setting.from_text(app.linked_setting(query)) == setting
    assert app.linked_setting("setting=lightgcn?l2=0.01&seed=3&token=abc") == "lightgcn?l2=0.01&seed=3"  # typed by hand
    assert app.linked_setting("token=abc") == app.linked_setting("") == ""


def test_the_page_opens_the_linked_setting_or_says_why_not(monkeypatch):
    monkeypatch.setenv("QUERY_STRING", "token=abc&setting=bpr?l2=0.02%26seed=7%26data=bazaar/garden")
    shown = app.page("lightgcn", "bazaar", "lightgcn?seed=1")
    assert isinstance(shown, WhatIf)
    assert (shown.studio.name, shown.studio.data.name, shown.studio.values["seed"]) == ("bpr", "bazaar/garden", 7)
    assert shown.studio.values["l2"] == 0.02
    shown.close()
    monkeypatch.setenv("QUERY_STRING", "setting=bpr?l2=<b>")
    refused = app.page().data
    assert "weight is no number" in refused
    assert "<b>" not in refused
    monkeypatch.delenv("QUERY_STRING")
    shown = app.page()
    assert (shown.studio.name, shown.studio.data.name) == ("lightgcn", "bazaar")
    shown.close()
