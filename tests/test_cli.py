"""The command line: its frame, `course`, `doctor` and `lab`."""

from __future__ import annotations

import argparse
import socket
import subprocess
import sys

import pytest

from mmrec_teach import cli
from mmrec_teach.cli import doctor, lab, main
from mmrec_teach.errors import InputError
from tests.toy_course import make_course


def run_python(code: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)


def test_help_imports_nothing_heavy():
    code = (
        "import sys\nfrom mmrec_teach.cli import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
        "print([name for name in ('torch', 'numpy', 'pandas', 'jupytext', 'plotly', 'IPython') if name in sys.modules])"
    )
    done = run_python(code)
    assert done.stdout.rstrip().endswith("[]"), done.stdout + done.stderr
    for command in ("atlas", "course", "data", "doctor", "lab", "train", "compare", "sweep"):
        assert f"\n    {command} " in done.stdout


def test_no_command_prints_help(capsys):
    assert main([]) == 0
    assert "commands:" in capsys.readouterr().out
    assert main(["course"]) == 0
    assert "reset" in capsys.readouterr().out


def area(monkeypatch, function):
    """A command line of one command that does as ``function`` does."""
    parser = argparse.ArgumentParser()
    parser.set_defaults(run=function)
    monkeypatch.setattr(cli, "build_parser", lambda: parser)


def test_bad_input_is_one_sentence_and_status_2(monkeypatch, capsys):
    def run(args):
        raise InputError("no such thing", where="there", fix="Try another")

    area(monkeypatch, run)
    assert main([]) == 2
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "there: no such thing. Try another.\n")


def test_an_interrupt_is_status_130(monkeypatch, capsys):
    def run(args):
        raise KeyboardInterrupt

    area(monkeypatch, run)
    assert main([]) == 130
    assert capsys.readouterr().err == "Interrupted.\n"


def test_other_errors_are_not_hidden(monkeypatch):
    def run(args):
        raise ZeroDivisionError

    area(monkeypatch, run)
    with pytest.raises(ZeroDivisionError):
        main([])


def test_statuses_pass_through(monkeypatch):
    for given, wanted in ((None, 0), (0, 0), (1, 1)):
        area(monkeypatch, lambda args, given=given: given)
        assert main([]) == wanted


def test_a_closed_pipe_is_no_traceback():
    code = "import sys; from mmrec_teach.cli import main; sys.exit(main(['course', 'progress', '--root', sys.argv[1]]))"
    command = f'{sys.executable} -c "{code}" nowhere | head -c 0'
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=120)
    assert "Traceback" not in done.stderr


# --- course --------------------------------------------------------------------------------------------------------


def test_course_from_build_to_reset(tmp_path, capsys):
    root = make_course(tmp_path / "course")
    here = ["--root", str(root)]
    assert main(["course", "build", *here]) == 0
    assert main(["course", "build", "--check", *here]) == 0
    assert capsys.readouterr().out == "All lessons are up to date.\n" * 2
    (root / "lessons" / "01_toy.py").unlink()
    assert main(["course", "build", "--check", *here]) == 1
    assert capsys.readouterr().out.startswith("lessons/01_toy.py: missing\n1 files are out of date")
    assert main(["course", "build", "toy", *here]) == 0
    assert capsys.readouterr().out == "wrote lessons/01_toy.py\n"
    assert main(["course", "check", *here]) == 1  # its exercise belongs to no real lesson
    assert "belongs to lesson toy" in capsys.readouterr().out
    assert main(["course", "start", *here]) == 0
    assert "New in your copy: 01_toy." in capsys.readouterr().out
    assert main(["course", "progress", *here]) == 0
    assert "0 of 2 points." in capsys.readouterr().out
    assert main(["course", "reset", "1", *here]) == 0
    assert "Your version is in" in capsys.readouterr().out
    assert main(["course", "reset", "9", *here]) == 2
    assert capsys.readouterr().err == "no lesson is called '9' (expected one of: 01_toy).\n"
    assert main(["course", "build", "--root", str(tmp_path / "no")]) == 2


# --- doctor --------------------------------------------------------------------------------------------------------


def test_the_doctor_finds_this_machine_well(capsys):
    assert main(["doctor"]) == 0
    out = capsys.readouterr().out
    for subject in ("Python", "Packages", "Lock file", "Widgets", "Pairing", "Embedded data", "CPU threads", "GPU", "Chromium"):
        assert subject in out
    assert "Everything essential works." in out


def test_the_doctor_says_what_to_do(monkeypatch, capsys, tmp_path):
    real = doctor.version_of
    monkeypatch.setattr(doctor, "version_of", lambda name: None if name in ("torch", "anywidget") else real(name))
    assert doctor.packages() == doctor.Finding("Packages", "problem", "missing: torch", doctor.INSTALL)
    assert doctor.widgets().state == "note"
    assert "not installed" in doctor.lock().found
    monkeypatch.setattr(doctor, "version_of", lambda name: "0.0.1" if name == "numpy" else real(name))
    assert doctor.lock().found.startswith("numpy 0.0.1 instead of ")
    monkeypatch.setattr(doctor, "version_of", real)
    monkeypatch.setenv("MMREC_TEACH_CHROMIUM", str(tmp_path / "none"))
    assert doctor.chromium().state == "note"

    def broken():
        raise RuntimeError("no luck")

    monkeypatch.setattr(doctor, "gpu", broken)
    assert main(["doctor"]) == 1
    out = capsys.readouterr().out
    assert "RuntimeError: no luck" in out
    assert "1 essential things do not work" in out


def test_the_doctor_sees_damaged_data(monkeypatch):
    from mmrec_teach.data import store
    from mmrec_teach.errors import DataError

    def damaged():
        raise DataError("an array differs from its checksum", where="bazaar.npz")

    monkeypatch.setattr(store, "verify", damaged)
    finding = doctor.data()
    assert finding.state == "problem"
    assert "checksum" in finding.found
    assert "data regenerate" in finding.advice


# --- lab -----------------------------------------------------------------------------------------------------------


def test_lab_options_turn_the_news_off_and_the_pairing_on(tmp_path):
    options = lab.jupyter_options(tmp_path, "00_bazaar", 9999, browser=False)
    assert "--LabApp.news_url=None" in options
    assert "--ServerApp.open_browser=False" in options
    assert "--ServerApp.contents_manager_class=jupytext.TextFileContentsManager" in options
    assert f"--ServerApp.root_dir={tmp_path}" in options
    settings = next(option.split("=", 1)[1] for option in options if option.startswith("--LabApp.app_settings_dir"))
    from jupyterlab_server.settings_utils import _get_overrides

    overrides, error = _get_overrides(settings)
    assert error == ""
    assert overrides["@jupyterlab/apputils-extension:notification"]["fetchNews"] == "false"


def test_lab_refuses_a_taken_port(tmp_path, capsys):
    root = make_course(tmp_path / "course")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert not lab.port_is_free(port)
        assert main(["lab", "--root", str(root), "--port", str(port), "--no-browser"]) == 2
    assert capsys.readouterr().err == f"port {port} is in use. Choose another with --port, or leave the option out.\n"
    assert main(["lab", "07", "--root", str(root), "--no-browser"]) == 2
    assert not lab.port_is_free(0)
    assert not lab.port_is_free(70000)
    assert lab.port_is_free(lab.free_port())


@pytest.mark.parametrize(
    ("environment", "wanted"),
    [
        ({}, False),
        ({"DISPLAY": ":0", "CI": "true"}, False),
        ({"DISPLAY": ":0", "SSH_CONNECTION": "x"}, False),
        ({"DISPLAY": ":0"}, True),
    ],
)
def test_a_browser_is_opened_only_where_one_can_be_seen(monkeypatch, environment, wanted):
    import webbrowser

    for name in ("DISPLAY", "WAYLAND_DISPLAY", "WSL_DISTRO_NAME", "CI", "SSH_CONNECTION"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(webbrowser, "get", lambda: object())
    assert lab.has_browser() is wanted
    monkeypatch.setattr(webbrowser, "get", no_browser)
    assert lab.has_browser() is False


def no_browser():
    import webbrowser

    raise webbrowser.Error("none")
