"""What is written as JSON: numbers as short as they are worth, and nothing that JSON lacks."""

from __future__ import annotations

import json

import numpy as np

from mmrec_teach.files import rounded, write_json


def test_rounded_reaches_every_number(tmp_path):
    value = {
        "a": 0.123456,
        "b": [1, 2.00004, True, None, "0.123456"],
        "c": {"d": float("nan"), "e": (np.float32(98765.4), np.int64(7))},
    }
    told = rounded(value)
    assert told == {"a": 0.1235, "b": [1, 2.0, True, None, "0.123456"], "c": {"d": None, "e": [98770.0, 7]}}
    assert told["b"][2] is True
    assert rounded(0.123456, 2) == 0.12
    write_json(tmp_path / "x.json", told)
    assert json.loads((tmp_path / "x.json").read_text(encoding="utf-8")) == told
