"""Verdicts: a right function passes, each kind of mistake is named, and no exercise accepts its wrong solutions."""

from __future__ import annotations

import contextlib
import json
import signal
import time

import nbclient
import nbformat
import numpy as np
import pytest
import scipy.sparse
import torch
from hypothesis import given
from hypothesis import strategies as st

from mmrec_teach.errors import OptionError
from mmrec_teach.grading import exercise as exercise_module
from mmrec_teach.grading import record
from mmrec_teach.grading.arrays import describe, for_learner, for_oracle, same_inputs
from mmrec_teach.grading.engine import check, compare, grade
from mmrec_teach.grading.exercise import Case, Exercise, Fresh, expect, find_exercise, load_exercises
from mmrec_teach.grading.child.patience import OutOfTimeError, time_limit
from mmrec_teach.grading.verdict import CaseResult, Verdict
from tests.toy_course import ROOT, toy_loss

logsigmoid = torch.nn.functional.logsigmoid


@pytest.fixture(autouse=True)
def _no_record(monkeypatch):
    monkeypatch.setenv("MMREC_TEACH_PROGRESS", "off")


@pytest.fixture
def make(monkeypatch):
    """Exercises that are gone after the test."""
    monkeypatch.setattr(exercise_module, "_REGISTRY", dict(exercise_module._REGISTRY))

    def build(name="toy", cases=(), oracle=None, **options):
        made = Exercise(name, lesson="toy", **options)
        made.cases(lambda: list(cases))
        if oracle is not None:
            made.oracle(oracle)
        return made

    return build


def test_a_right_function_passes():
    verdict = grade(toy_loss, lambda pos, neg: -logsigmoid(pos - neg).mean())
    assert verdict
    assert (verdict.status, verdict.passed, verdict.total) == ("passed", 3, 3)
    assert str(verdict).splitlines()[0] == "✓ Passed: toy_loss (all 3 cases pass)"


def inplace(pos, neg):
    pos.sub_(neg)
    return -logsigmoid(pos).mean()


def raises(pos, neg):
    margin = pos - neg
    return margin @ torch.zeros(99)


MISTAKES = {
    "swapped": (
        lambda pos, neg: -logsigmoid(neg - pos).mean(),
        "value",
        "with pos = [2.], neg = [0.5]: got 1.7014, expected 0.20141.",
    ),
    "no mean": (
        lambda pos, neg: -logsigmoid(pos - neg),
        "shape",
        "your answer has shape (1,); expected is () (a single number).",
    ),
    "no return": (lambda pos, neg: None, "type", "your answer is None: is a `return` missing?"),
    "text": (lambda pos, neg: "0.2", "type", "your answer should be a single number, and is of type str."),
    "boolean": (lambda pos, neg: (pos > neg).all(), "dtype", "dtype bool; expected are decimal numbers."),
    "item": (lambda pos, neg: -logsigmoid(pos - neg).mean().item(), "gradient", "no gradient flows"),
    "detached half": (
        lambda pos, neg: -logsigmoid(pos - neg.detach()).mean(),
        "gradient",
        "no gradient reaches `neg`: is it detached on the way?",
    ),
    "half gradient": (
        lambda pos, neg: -logsigmoid((pos + pos.detach()) / 2 - neg).mean(),
        "gradient",
        "its gradient with respect to `pos` is not",
    ),
    "in place": (inplace, "mutation", "changes an input in place; work on a copy (line 2: `pos.sub_(neg)`)"),
    "raises": (raises, "exception", "at your line 3: `return margin @ torch.zeros(99)`"),
    "one argument": (lambda pos: pos, "exception", "do the arguments in your `def` line still have their places?"),
    "nan": (lambda pos, neg: (pos - neg).mean() * float("nan"), "value", "There are NaNs"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_each_kind_of_mistake_is_named(name):
    function, kind, said = MISTAKES[name]
    verdict = grade(toy_loss, function)
    assert not verdict
    assert verdict.cases[0].kind == kind
    assert said in verdict.cases[0].message


def test_a_misconception_is_recognised_by_its_answers():
    assert grade(toy_loss, lambda pos, neg: -logsigmoid(neg - pos).mean()).advice == (
        "Your answers are those of: the pair the wrong way round."
    )
    assert grade(toy_loss, lambda pos, neg: (pos - neg).mean()).advice == ""


def test_a_rule_can_fail_alone():
    verdict = grade(toy_loss, lambda pos, neg: -torch.log(torch.sigmoid(pos - neg)).mean())
    assert [case.passed for case in verdict.cases] == [True, True, False]
    assert "use logsigmoid" in verdict.cases[2].message


def test_a_stub_is_not_a_failure():
    def toy(pos, neg):
        raise NotImplementedError("Write `toy_loss`: the mean of pairs")

    verdict = grade(toy_loss, toy)
    assert (verdict.status, str(verdict)) == (
        "blank",
        "… Not written yet: toy_loss\n  Write `toy_loss`: the mean of pairs",
    )


def test_a_stub_behind_a_rule_is_not_a_failure_either(make):
    made = make()
    made.rule("never returns a positive")(lambda function: expect(function(1) > 0, "it does"))

    def toy(x):
        raise NotImplementedError("Write it")

    assert grade(made, toy).status == "blank"
    assert grade(made, lambda x: 1).status == "passed"
    assert grade(made, lambda x: -1).cases[0] == CaseResult("never returns a positive", False, "rule", "it does")


def test_a_rule_that_stumbles_over_a_wrong_answer_tells_no_traceback():
    namespace: dict = {}
    exec(compile("def toy_loss(pos, neg):\n    return 'zero'", "<cell>", "exec"), namespace)
    verdict = grade(toy_loss, namespace["toy_loss"])
    assert verdict.cases[2].message == "cannot be tried before the cases above pass."


def test_check_finds_the_function_where_it_is_called(capsys):
    namespace = {"check": check, "torch": torch}
    exec("verdict = check('toy_loss')", namespace)
    assert namespace["verdict"].status == "missing"
    assert "run the cell that defines it" in namespace["verdict"].advice
    exec("toy_loss = 3\nverdict = check('toy_loss')", namespace)
    assert "`toy_loss` is 3, not a function" in namespace["verdict"].advice
    exec(
        "def toy_loss(pos, neg):\n    return torch.nn.functional.softplus(neg - pos).mean()\nverdict = check('toy_loss')",
        namespace,
    )
    assert namespace["verdict"].status == "passed"
    assert "✓ Passed: toy_loss" in capsys.readouterr().out


def test_an_unknown_exercise_lists_the_known_ones():
    with pytest.raises(OptionError, match="no exercise is called 'nothing'") as caught:
        check("nothing")
    assert "toy_loss" in str(caught.value)


def test_one_name_for_two_lessons_is_refused(make):
    make("twice")
    with pytest.raises(OptionError, match="the name is taken"):
        Exercise("twice", lesson="98")
    with pytest.raises(OptionError, match="expected torch or numpy"):
        Exercise("thrice", arrays="jax")


def test_attempts_are_noted_once_passed_stays_passed(tmp_path, monkeypatch):
    monkeypatch.setenv("MMREC_TEACH_PROGRESS", str(tmp_path / "p.json"))

    def blank(pos, neg):
        raise NotImplementedError

    for function in (blank, lambda pos, neg: pos, lambda pos, neg: -logsigmoid(pos - neg).mean(), lambda pos, neg: pos):
        check("toy_loss", function)
    entry = json.loads((tmp_path / "p.json").read_text(encoding="utf-8"))["exercises"]["toy_loss"]
    assert (entry["passed"], entry["attempts"], entry["last"]) == (True, 3, "1 of 3")
    assert entry["first_passed"] is not None
    assert record.current_record().path == tmp_path / "p.json"


def test_verdicts_as_html_say_it_in_words_and_escape():
    verdict = Verdict(
        "x", "failed", (CaseResult("a < b", False, "value", "got <b>, expected 'c'"), CaseResult("two", True)), "A & B."
    )
    page = verdict._repr_html_()
    assert "Not yet: x (1 of 2 cases pass)" in page
    assert "<b>Fail</b>: a &lt; b: got &lt;b&gt;, expected &#x27;c&#x27;" in page
    assert "<b>Pass</b>: two" in page
    assert "A &amp; B." in page


# --- values on their way -------------------------------------------------------------------------------------------


def test_what_learner_and_oracle_receive():
    graph = scipy.sparse.csr_matrix(np.array([[0.0, 1.0], [2.0, 0.0]]))
    given_torch = [for_learner(value) for value in (np.ones(2), np.arange(2, dtype=np.int32), graph, 3, [np.ones(1)], "a")]
    assert given_torch[0].dtype == torch.float32
    assert given_torch[1].dtype == torch.int64
    assert given_torch[2].layout == torch.sparse_csr
    assert given_torch[2].to_dense().tolist() == [[0, 1], [2, 0]]
    assert given_torch[3] == 3
    assert isinstance(given_torch[4][0], torch.Tensor)
    assert for_learner(np.ones(2, np.float32), "numpy").dtype == np.float32
    assert for_oracle(np.ones(2, np.float32)).dtype == np.float64
    assert for_oracle(torch.ones(2)).dtype == np.float64
    assert scipy.sparse.issparse(for_oracle(graph))
    fresh = Fresh(lambda: np.random.default_rng(0))
    assert for_learner(fresh).random() == for_learner(fresh).random() == for_oracle(fresh).random()


def test_inputs_are_fresh_for_every_call():
    values = np.zeros(3)
    for_learner(values)[0] = 1
    for_learner(values, "numpy")[0] = 1
    assert values.tolist() == [0, 0, 0]
    assert same_inputs(np.array([np.nan]), np.array([np.nan]))
    assert not same_inputs({"a": np.zeros(1)}, {"a": np.ones(1)})


def test_a_mutated_numpy_input_is_noticed(make):
    made = make(cases=[Case("c", x=np.array([3.0, 1.0]))], oracle=np.sort, arrays="numpy")

    def toy(x):
        x.sort()
        return x

    verdict = grade(made, toy)
    assert verdict.cases[0].kind == "mutation"
    assert "`x`" in verdict.cases[0].message
    assert grade(made, np.sort)


@pytest.mark.parametrize(
    ("answer", "expected", "kind"),
    [
        (np.array([1, 2]), np.array([1, 2]), None),
        (torch.tensor([1.0, 2.0]), np.array([1, 2]), "dtype"),
        (torch.tensor([1, 2]), np.array([1.0, 2.0]), None),
        ([1, 2], np.array([1, 2]), "type"),
        ((1.0, np.ones(2)), (1.0, np.ones(2)), None),
        ((1.0, np.ones(2)), (1.0, np.zeros(2)), "value"),
        ((1.0,), (1.0, 2.0), "shape"),
        (1.0, (1.0, 2.0), "type"),
        ([3, 4], [3, 4], None),
        (torch.tensor([3, 4]), [3, 4], None),
        ([3, 5], [3, 4], "value"),
        ({"a": 1.0}, {"a": 1.0}, None),
        ({"a": 1.0}, {"b": 1.0}, "shape"),
        ({"a": 1.0, "b": 1.0}, {"a": 1.0}, "shape"),
        (3.0, {"a": 1.0}, "type"),
        ({1, 2}, {2, 1}, None),
        ({1, 2}, {2, 3}, "value"),
        (np.ones((2, 1)), np.ones(2), "shape"),
        (np.array([np.inf]), np.array([np.inf]), None),
        (np.array([np.nan]), np.array([1.0]), "value"),
        (np.array([True]), np.array([True]), None),
        (np.array([1.0]), np.array([True]), "dtype"),
        (None, 1.0, "type"),
    ],
)
def test_comparison(answer, expected, kind):
    problem = compare(answer, expected, 1e-6)
    assert (problem and problem[0]) == kind


@pytest.mark.parametrize("answer", [0.0, -1e9, np.inf, np.nan])
def test_infinity_is_equal_to_itself_alone(answer):
    """A tolerance that grows with the expected number must not grow to infinity."""
    assert compare(np.array([1.0, answer]), np.array([1.0, -np.inf]), 1e-5)[0] == "value"
    assert compare(np.array([1.0, -np.inf]), np.array([1.0, -np.inf]), 1e-5) is None


@given(
    st.lists(st.floats(-1e6, 1e6, allow_nan=False), min_size=1, max_size=20),
    st.integers(0, 19),
    st.floats(-1e3, 1e3, allow_nan=False),
)
def test_one_number_off_by_more_than_the_tolerance_is_found_and_placed(values, index, shift):
    expected = np.array(values)
    answer = expected.copy()
    index %= len(values)
    answer[index] += shift
    allowed = 1e-4 * max(1, abs(expected[index]))
    off = abs(answer[index] - expected[index])
    problem = compare(answer, expected, 1e-4)
    assert (problem is None) == (off <= allowed)
    if problem and len(values) > 12:
        assert f"1 of {len(values)} numbers differ; the first is at [{index}]" in problem[1]


def test_large_arrays_are_described_by_shape_and_place(make):
    expected = np.arange(60.0).reshape(20, 3)
    wrong = expected.copy()
    wrong[4, 2] = 99
    assert compare(wrong, expected, 1e-6)[1] == "1 of 60 numbers differ; the first is at [4, 2]: got 99, expected 14."
    assert describe(expected) == "an array of shape (20, 3) beginning 0, 1, 2, 3, 4, 5, …"
    assert describe(np.array([1, 2])) == "[1, 2]"
    assert describe(["a", 2.0]) == "['a', 2]"


# --- in a notebook -------------------------------------------------------------------------------------------------


def test_check_in_a_real_kernel(tmp_path):
    notebook = nbformat.v4.new_notebook()
    sources = [
        f"import sys; sys.path.insert(0, {str(ROOT)!r})\nfrom mmrec_teach.notebook import check\nimport tests.toy_course, torch",
        "check('toy_loss')",
        "def toy_loss(pos, neg):\n    margin = pos - neg\n    return margin @ torch.zeros(99)",
        "check('toy_loss')",
        "def toy_loss(pos, neg):\n    return torch.nn.functional.softplus(neg - pos).mean()",
        "check('toy_loss')",
    ]
    notebook.cells = [nbformat.v4.new_code_cell(source) for source in sources]
    nbclient.NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(tmp_path)}}).execute()
    texts = [cell.outputs[0].data["text/plain"] if cell.outputs else "" for cell in notebook.cells]
    assert texts[1].startswith("? Not found: toy_loss")
    assert "at your line 3: `return margin @ torch.zeros(99)`" in texts[3]
    assert texts[5].startswith("✓ Passed: toy_loss")
    assert "text/html" in notebook.cells[5].outputs[0].data
    assert list(tmp_path.iterdir()) == [], "nothing is written outside a learner's copy"


# --- the exercises of the course -----------------------------------------------------------------------------------

EXERCISES = sorted(name for name, found in load_exercises().items() if found.lesson.isdigit())


def test_exercises_are_found_by_name():
    assert find_exercise("toy_loss") is toy_loss


@pytest.mark.parametrize("name", EXERCISES)
def test_an_exercise_has_cases_and_refuses_its_wrong_solutions(name):
    found = find_exercise(name)
    assert found.all_cases() or found.rules
    assert len({case.name for case in found.all_cases()} | set(found.rules)) == len(found.all_cases()) + len(found.rules)
    assert len(found.wrongs) >= 2, "at least two misconceptions"
    for misconception, wrong in found.wrongs.items():
        verdict = grade(found, wrong)
        assert not verdict, f"accepts: {misconception}"
        assert verdict.status != "blank", misconception


@pytest.mark.parametrize("name", EXERCISES)
def test_the_cases_of_an_exercise_are_the_same_each_time(name):
    found = find_exercise(name)
    for one, other in zip(found.all_cases(), found.all_cases(), strict=True):
        assert compare(found.answer(one), found.answer(other), 0.0) is None


# -- a loop without end -----------------------------------------------------------------------------------------------------
def test_a_loop_without_end_is_stopped_and_told(make, monkeypatch):
    monkeypatch.setattr("mmrec_teach.grading.child.patience.SECONDS", 0.2)
    calls = []

    def waits_for_ever(x):
        calls.append(x)
        while True:
            with contextlib.suppress(Exception):  # a learner's own net must not catch the bell
                x = x + 1

    exercise = make(cases=[Case("one", x=1.0), Case("two", x=2.0)], oracle=lambda x: x)
    exercise.rule("never reached")(lambda function: function(3.0))
    verdict = grade(exercise, waits_for_ever)
    assert verdict.status == "failed"
    assert len(calls) == 1, "the next case would wait as long"
    assert "not done after 0.2 seconds" in str(verdict)


def test_a_rule_has_a_limit_too(make, monkeypatch):
    monkeypatch.setattr("mmrec_teach.grading.child.patience.SECONDS", 0.2)
    exercise = make()
    exercise.rule("ends")(lambda function: function())

    def forever():
        while True:
            pass

    assert "not done after 0.2 seconds" in str(grade(exercise, forever))


def test_the_limit_leaves_other_timers_running():
    rung = []
    handler = signal.signal(signal.SIGALRM, lambda *_: rung.append(1))
    before = signal.setitimer(signal.ITIMER_REAL, 1000)
    try:
        with time_limit(500):
            assert 0 < signal.getitimer(signal.ITIMER_REAL)[0] <= 500
        assert 500 < signal.getitimer(signal.ITIMER_REAL)[0] <= 1000
        with pytest.raises(OutOfTimeError), time_limit(0.05):
            time.sleep(20)
        assert rung == []
    finally:
        signal.setitimer(signal.ITIMER_REAL, *before)
        signal.signal(signal.SIGALRM, handler)


def test_without_a_main_thread_there_is_no_limit():
    from concurrent.futures import ThreadPoolExecutor

    def limited():
        with time_limit(0.0001):
            return sum(range(100_000))

    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(limited).result() == sum(range(100_000))
