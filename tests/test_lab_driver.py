"""Which errors of a page's scripts the browser tests let pass."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from tests.lab_driver import open_notebook, restart_kernel, script_errors

LAB = SimpleNamespace(url="http://127.0.0.1:1", address=lambda name: f"http://127.0.0.1:1/lab/tree/{name}")
CANCELED = "Canceled future for {}_request message before replies were done"
OWN = [CANCELED.format(kind) for kind in ("create_subshell", "kernel_info", "comm_info")]
OTHERS = [
    CANCELED.format("execute"),
    CANCELED.format("comm_msg").replace("_request", ""),
    "TypeError: undefined is not a function",
    f"TypeError: after {OWN[0]}",
]


def page(url: str = "about:blank") -> SimpleNamespace:
    """A page on which all this was raised."""
    nothing = {"goto": lambda *_: None, "wait_for_function": lambda *_, **__: None, "evaluate": lambda *_: None}
    return SimpleNamespace(
        url=url, raised=[*OWN, f"Error: {OWN[0]}\n    at dispose (lab.js)", *OTHERS], kernels_left=False, **nothing
    )


def test_as_long_as_no_kernel_was_left_every_error_counts():
    first = page()
    assert script_errors(first) == first.raised
    open_notebook(first, LAB, "a.ipynb")
    assert script_errors(first) == first.raised


@pytest.mark.parametrize("leave", [restart_kernel, lambda page: open_notebook(page, LAB, "a.ipynb")], ids=["restart", "reload"])
def test_after_a_restart_or_a_reload_cancelled_requests_of_jupyterlab_pass_and_nothing_else(leave):
    left = page(LAB.address("a.ipynb"))
    leave(left)
    assert script_errors(left) == OTHERS
