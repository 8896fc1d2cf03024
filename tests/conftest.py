"""Shared fixtures: a tiny hand-made data set, the bazaar, and the real data where it is at hand."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

if "PYTEST_XDIST_WORKER" in os.environ:  # several workers share the cores, and so do the processes that tests start
    os.environ.setdefault("OMP_NUM_THREADS", "1")

os.environ["MMREC_TEACH_CACHE"] = ""  # tests leave nothing in the user's cache, and do not live on what lies there

import mmrec_teach  # noqa: F401 - first of all: says how torch's threads wait

# isort: split
import numpy as np
import pytest
import torch

from mmrec_teach.data import Dataset, Interactions

ROOT = Path(__file__).resolve().parent.parent


LONG = [
    "claims_02_to_05",
    "claims_11",
    "claims_09",
    "claims_07",
    "claims_10",
    "attacks",
    "claims_06",
    "browser_lab",
    "browser",
    "claims_12",
    "claims_13",
    "classroom",
    "atlas",
    "pytest_plugin",
    "claims_08",
    "setup",
    "pretrain",
    "ranks",
    "claims_01",
    "whatif_app",
    "sandbox",
    "models_graphs",
    "panel",
]
"""What is to begin first, by processor seconds: the longest at the end would leave the other workers idle. Lessons come next."""


def unit_of(nodeid: str) -> str:
    """Return what goes to a worker as a whole: a file, whose tests share what they built, or one run of one lesson.

    Claims of lessons 02 to 05 go together: they judge each other's models, each trained once a process.
    """
    file = nodeid.split("::", 1)[0]
    name = file.rsplit("/", 1)[-1].removeprefix("test_").removesuffix(".py")
    if name == "lessons":
        return nodeid
    return "claims_02_to_05" if name in ("claims_02", "claims_03", "claims_04", "claims_05") else name


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the tests in the order in which workers are to begin with their units."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        return
    sizes = Counter(unit_of(item.nodeid) for item in items)

    def place(item: pytest.Item) -> tuple[int, int]:
        unit = unit_of(item.nodeid)
        if unit in LONG:
            return LONG.index(unit), 0
        return len(LONG) + ("::" not in unit), -sizes[unit]

    items.sort(key=place)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """``--dist loadfile`` by :func:`unit_of`, in the order above rather than by how many tests there are."""
    if config.getoption("dist") != "loadfile":
        return None
    from xdist.scheduler import LoadFileScheduling

    class ByUnit(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return unit_of(nodeid)

    config.option.loadscopereorder = False
    return ByUnit(config, log)


@pytest.fixture(autouse=True, scope="session")
def _threads() -> None:
    """Two threads at most, so that numbers do not depend on the machine's core count; one beside other workers."""
    torch.set_num_threads(1 if "PYTEST_XDIST_WORKER" in os.environ else min(2, os.cpu_count() or 1))


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data sets, or a skip that says where it was looked for."""
    for candidate in (os.environ.get("MMREC_TEACH_REAL_DATA"), ROOT.parent / "shared" / "data"):
        if candidate and (Path(candidate) / "amazon-baby").is_dir():
            return Path(candidate)
    pytest.skip("real data sets are not at hand (set MMREC_TEACH_REAL_DATA to their folder)")


@pytest.fixture(scope="session")
def chromium() -> str:
    """The browser's path; a skip in one plain sentence where there is none, a failure where one is required."""
    from mmrec_teach.cli.doctor import find_chromium

    if (path := find_chromium()) is None:
        reason = "there is no Chromium here (install it, or name it in MMREC_TEACH_CHROMIUM)"
        if os.environ.get("MMREC_TEACH_REQUIRE_BROWSER") == "1":
            pytest.fail(f"MMREC_TEACH_REQUIRE_BROWSER=1, but {reason}")
        pytest.skip(reason)
    return path


def make_tiny(seed: int = 0, n_users: int = 30, n_items: int = 40) -> Dataset:
    """Users like items of their own parity; features reveal the parity; the last two items are cold."""
    rng = np.random.default_rng(seed)
    train, valid, test = [], [], []
    for user in range(n_users):
        liked = np.flatnonzero(np.arange(n_items) % 2 == user % 2)
        warm, cold = liked[liked < n_items - 2], liked[liked >= n_items - 2]
        order = rng.permutation(warm)
        train += [(user, i) for i in order[:6]]
        valid += [(user, order[6])]
        test += [(user, order[7]), *((user, i) for i in cold)]
    # every warm item gets at least one training interaction
    have = {i for _, i in train}
    taken = {*train, *valid, *test}
    for item in range(n_items - 2):
        if item not in have:
            user = next(u for u in range(n_users) if u % 2 == item % 2 and (u, item) not in taken)
            train.append((user, item))

    def interactions(pairs: list[tuple[int, int]]) -> Interactions:
        table = np.array(pairs, dtype=np.int64)
        return Interactions(table[:, 0], table[:, 1])

    parity = np.where(np.arange(n_items) % 2 == 0, 1.0, -1.0)[:, None]
    features = {
        "image": (parity * rng.normal(1, 0.2, (1, 8)) + rng.normal(0, 0.5, (n_items, 8))).astype(np.float32),
        "text": (parity * rng.normal(1, 0.2, (1, 5)) + rng.normal(0, 0.5, (n_items, 5))).astype(np.float32),
    }
    return Dataset(
        name="tiny",
        user_ids=np.array([f"u{u}" for u in range(n_users)]),
        item_ids=np.array([f"i{i}" for i in range(n_items)]),
        train=interactions(train),
        valid=interactions(valid),
        test=interactions(test),
        features=features,
    )


def in_order(data: Dataset) -> Dataset:
    """Return ``data`` with an order: the rows as they stand, training first."""
    parts, n = [], 0
    for part in (data.train, data.valid, data.test):
        parts.append(Interactions(part.users, part.items, np.arange(n, n + len(part))))
        n += len(part)
    return replace(data.with_splits(*parts), time_is_order=True)


@pytest.fixture(scope="session")
def tiny() -> Dataset:
    return make_tiny()


@pytest.fixture(scope="session")
def bazaar() -> Dataset:
    from mmrec_teach.data import load

    return load("bazaar")


@pytest.fixture(scope="session")
def sandbox():
    """The process for students' code, behind the strongest wall that works here; one for all tests that need no other."""
    from mmrec_teach.grading.sandbox import Sandbox

    with Sandbox() as box:
        box.start()
        yield box
