"""Two processes train one model: the same numbers as one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import two_ranks
from conftest import in_order, make_tiny

from mmrec_teach.cli import main
from mmrec_teach.models.pretrained import load_pretrained
from mmrec_teach.training.ranks import Ranks, torchrun_ranks

TESTS = Path(__file__).parent


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that two processes, started once, have written to."""
    out = tmp_path_factory.mktemp("ranks")
    paths = [str(TESTS), str(TESTS.parent), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += [str(TESTS / "two_ranks.py"), str(out)]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as started:
        try:
            told, problems = started.communicate(timeout=240)
        finally:
            started.terminate()  # torchrun ends its processes; killed, it would leave them behind
    assert started.returncode == 0, problems[-3000:]
    (out / "told").write_text(told, encoding="utf-8")
    return out


@pytest.fixture(scope="module")
def found(out: Path) -> list[dict]:
    return [torch.load(out / f"{rank}.pt", weights_only=True) for rank in range(2)]


def test_rows_of_all_are_gathered_and_their_gradients_come_back(found):
    for rank, result in enumerate(found):
        whole = [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0], [10.0, 11.0, 12.0]]
        assert result["gathered"]["whole"].tolist() == whole
        assert result["gathered"]["one"].tolist() == [[0.0, 0.0]]  # one rank had none
        assert result["gathered"]["span"].tolist() == [[0, 3], [2, 3]][rank]
        mine = torch.tensor(whole)[:2] if rank == 0 else torch.tensor(whole)[2:]
        assert torch.equal(result["gathered"]["gradient"], 3 * 2 * mine)  # (1 + 2) d/dx x²
    assert [result["few"] for result in found] == [0, 1]


@pytest.mark.parametrize("case", two_ranks.CASES)
def test_two_ranks_are_one(found, case):
    model, losses = two_ranks.trained(case, in_order(make_tiny()), Ranks())
    for result in found:
        for mine, theirs in zip(losses, result[case]["losses"], strict=True):
            assert mine == pytest.approx(theirs, abs=1e-5)
        for name, value in model.state_dict().items():
            torch.testing.assert_close(result[case]["state"][name], value, atol=1e-5, rtol=1e-5, msg=name)


@pytest.mark.parametrize("name", two_ranks.DROPOUT)
def test_with_dropout_the_ranks_stay_one_model(found, name):
    one, other = (result[f"dropout {name}"] for result in found)
    assert all(torch.equal(value, other[key]) for key, value in one.items())
    fresh = two_ranks.create(name, in_order(make_tiny()), **two_ranks.DROPOUT[name])
    assert not torch.equal(one["place.weight"], fresh.state_dict()["place.weight"])


def test_the_command_under_torchrun(out, capsys, tmp_path):
    assert main([*two_ranks.COMMAND, "--out", str(tmp_path)]) == 0
    alone = capsys.readouterr().out.splitlines()
    told = (out / "told").read_text(encoding="utf-8").splitlines()
    assert told[:-1] == alone[:-1]  # said once; the last line names the folder
    one, two = (load_pretrained(folder / "pretrained.npz") for folder in (tmp_path, out / "two"))
    assert one.options == two.options
    for name, value in one.parameters.items():
        np.testing.assert_allclose(two.parameters[name].numpy(), value.numpy(), atol=1e-5, rtol=1e-4, err_msg=name)


def test_alone_is_alone():
    with torchrun_ranks("cpu") as (ranks, device):
        assert (ranks, device) == (Ranks(0, 1), "cpu")
    assert Ranks(1, 2).first is False
