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
from mmrec_teach.grading.child.patience import OutOfTimeError, time_limit
from mmrec_teach.grading.engine import broken, check, compare, grade, seed_of
from mmrec_teach.grading.exercise import GRADIENT, INPUTS, STEADY, Case, Exercise, Fresh, expect, find_exercise
from mmrec_teach.grading.verdict import CaseResult, Verdict
from mmrec_teach.ops import losses
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
    assert (verdict.status, verdict.passed, verdict.total, verdict.credit) == ("passed", 6, 6, 1.0)
    assert str(verdict).splitlines()[0] == "✓ Passed: toy_loss (all 6 cases pass)"


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
    "in place": (inplace, "gradient", "changes an input in place; work on a copy (line 2: `pos.sub_(neg)`)"),
    "raises": (raises, "exception", "at your line 3: `return margin @ torch.zeros(99)`"),
    "one argument": (lambda pos: pos, "exception", "do the arguments in your `def` line still have their places?"),
    "nan": (lambda pos, neg: (pos - neg).mean() * float("nan"), "value", "There are NaNs"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_each_kind_of_mistake_is_named(name):
    function, kind, said = MISTAKES[name]
    verdict = grade(toy_loss, function)
    assert not verdict
    first = next(result for result in verdict.cases if not result.passed)
    assert first.kind == kind
    assert said in first.message


def test_a_misconception_is_recognised_by_its_answers():
    assert grade(toy_loss, lambda pos, neg: -logsigmoid(neg - pos).mean()).advice == (
        "Your answers are those of: the pair the wrong way round."
    )
    assert grade(toy_loss, lambda pos, neg: (pos - neg).mean()).advice == ""


def test_a_rule_can_fail_alone():
    verdict = grade(toy_loss, lambda pos, neg: -torch.log(torch.sigmoid(pos - neg)).mean())
    assert [case.passed for case in verdict.cases] == [True] * 5 + [False]
    assert "use logsigmoid" in verdict.cases[5].message
    assert verdict.advice == "The usual mistake that fails just here: the logarithm of a sigmoid that has become zero."


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
    assert grade(made, lambda x: -1).cases[0] == CaseResult("never returns a positive", False, "rule", "it does", group="rules")


def test_a_rule_that_stumbles_over_a_wrong_answer_tells_no_traceback():
    namespace: dict = {}
    exec(compile("def toy_loss(pos, neg):\n    return 'zero'", "<cell>", "exec"), namespace)
    verdict = grade(toy_loss, namespace["toy_loss"])
    assert verdict.cases[5].message == "is tried once the cases above pass."


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
    assert (entry["passed"], entry["attempts"], entry["last"]) == (True, 3, "1 of 6")
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
    assert [(case.name, case.kind) for case in verdict.cases if not case.passed] == [(INPUTS, "mutation")]
    assert "`x`" in verdict.cases[1].message
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


def test_exercises_are_found_by_name():
    assert find_exercise("toy_loss") is toy_loss


# -- a loop without end -----------------------------------------------------------------------------------------------------
def test_a_loop_without_end_is_stopped_and_told(make, monkeypatch):
    monkeypatch.setattr("mmrec_teach.grading.child.patience.SECONDS", 0.2)
    calls = []

    def waits_for_ever(x):
        calls.append(x)
        while True:
            with contextlib.suppress(Exception):  # a learner's own net must not catch the bell
                x = x + 1

    exercise = make(cases=[Case("one", x=1.0), Case("two", x=2.0), Case("three", x=3.0)], oracle=lambda x: x)
    exercise.rule("never reached")(lambda function: function(4.0))
    verdict = grade(exercise, waits_for_ever)
    assert (verdict.status, verdict.credit) == ("failed", 0.0)
    assert len(calls) == 2, "twice may be bad luck; then nothing more is tried"
    assert [case.kind for case in verdict.cases] == ["timeout", "timeout", *["untried"] * 4]
    assert "not done after 0.2 seconds" in str(verdict)


def test_one_lost_call_costs_its_own_case_alone(make, monkeypatch):
    monkeypatch.setattr("mmrec_teach.grading.child.patience.SECONDS", 0.2)

    def waits_once(x):
        while x == 1:
            pass
        return x

    exercise = make(cases=[Case("one", x=1.0), Case("two", x=2.0), Case("three", x=3.0)], oracle=lambda x: x)
    assert [case.kind for case in grade(exercise, waits_once).cases] == ["timeout", "", "", "", ""]


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
        with time_limit(100):
            assert 0 < signal.getitimer(signal.ITIMER_REAL)[0] <= 300
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


# -- credit by groups --------------------------------------------------------------------------------------------------------
@pytest.fixture
def doubled(make):
    """Twice the input: an example, a random case, a hidden one, a gradient, a rule, and a rule that decides."""
    made = make("doubled", [Case("one", x=np.array([1.0]))], lambda x: 2 * x, gradient=("x",))
    made.random(lambda rng: [Case("three at random", x=rng.normal(size=3) + 5)])
    made.hidden(lambda: [Case("none at all", x=np.zeros(0)), Case("below zero", x=np.array([-3.0]))])

    @made.rule("keeps a large number finite")
    def _(function):
        expect(bool(torch.isfinite(function(torch.tensor([1e30]))).all()), "it is not finite")

    @made.rule("zero stays zero", core=True)
    def _(function):
        expect(function(torch.zeros(1)).tolist() == [0], "it is not zero")

    return made


def doubled_in_place(x):
    x *= 2
    return x * 1


seen: list = []


def answers_once(x):
    seen.append(x)
    return 2 * x if sum(torch.equal(x, other) for other in seen) == 1 else 3 * x


EARNED = {
    "right": (lambda x: 2 * x, 1.0, ""),
    "wrong": (lambda x: 3 * x, 0.0, "value"),
    "the example's answer by heart": (lambda x: torch.tensor([2.0], requires_grad=True), 0.0, "shape"),
    "wrong where hidden cases look": (lambda x: 2 * x.abs(), 0.875, "value"),
    "gradient lost": (lambda x: (2 * x).detach(), 0.875, "gradient"),
    "in place": (doubled_in_place, 0.75, "gradient mutation"),
    "a rule broken": (lambda x: 2 * (x.exp().log()), 0.875, "rule"),
    "a deciding rule broken": (lambda x: 2 * x + (len(x) == 1) * (x == 0), 0.0, "rule"),
    "not the same twice": (answers_once, 0.0, "value"),
    "the package's own answer": (lambda x: losses.bpr(x, -x) * 0 + 2 * x, 0.0, "borrowed"),
    "nothing but noise": (lambda x: torch.rand_like(x), 0.0, "value"),
    "an exception": (lambda x: 1 / 0, 0.0, "exception"),
}


@pytest.mark.parametrize("name", EARNED)
def test_credit_goes_by_groups(name, doubled):
    function, credit, kinds = EARNED[name]
    seen.clear()
    verdict = grade(doubled, function, seed=5)
    assert verdict.credit == credit, str(verdict)
    assert set(kinds.split()) <= {case.kind for case in verdict.cases}


def test_without_other_groups_the_core_pays_everything(make):
    made = make()
    made.rule("one", core=True)(lambda function: expect(function() == 1, "it is not"))
    assert grade(made, lambda: 1).credit == 1.0
    assert grade(made, lambda: 2).credit == 0.0


def test_the_names_of_results_are_known_beforehand(doubled):
    names = [(case.name, case.group) for case in grade(doubled, lambda x: 2 * x).cases]
    assert names == doubled.result_names()
    assert names == [(case.name, case.group) for case in grade(doubled, lambda x: 1 / 0).cases]
    assert names == [
        ("one", "examples"),
        ("three at random", "random"),
        ("none at all", "hidden"),
        ("below zero", "hidden"),
        (GRADIENT, "gradient"),
        (INPUTS, "inputs"),
        (STEADY, "steady"),
        ("keeps a large number finite", "rules"),
        ("zero stays zero", "core"),
    ]


# -- random cases ------------------------------------------------------------------------------------------------------------
def test_the_draw_follows_from_what_was_handed_in(doubled):
    def drawn(seed):
        return [case.inputs["x"].tolist() for case in doubled.all_cases(seed) if case.group == "random"]

    text = "def doubled(x):\n    return 2 * x\n"
    seed = seed_of("doubled", text)
    assert seed == seed_of("doubled", "\n" + text.replace("\n", "  \n")), "spaces at the end of a line are not another text"
    others = [seed_of("doubled", text.replace("2", "3")), seed_of("tripled", text), seed_of("doubled", text, salt=1)]
    assert len({seed, *others}) == 4
    assert drawn(seed) == drawn(seed)
    assert all(drawn(seed) != drawn(other) for other in others)


def test_a_verdict_uses_the_draw_of_the_functions_text(doubled):
    met = []

    def doubled_and_noted(x):
        met.append(x.tolist())
        return 2 * x

    grade(doubled, doubled_and_noted)
    first = list(met)
    met.clear()
    grade(doubled, doubled_and_noted)
    assert met == first
    met.clear()
    grade(doubled, doubled_and_noted, seed=1)
    assert met != first


# -- misconceptions by what fails ----------------------------------------------------------------------------------------------
def test_a_misconception_is_recognised_by_the_rules_it_breaks(make):
    made = make()
    for number in (1, 2, 3):
        made.rule(f"holds for {number}")(lambda function, number=number: expect(function(number), "it does not"))
    made.wrong("blind to 1")(lambda x: x != 1)
    made.wrong("blind to 2")(lambda x: x != 2)
    made.wrong("blind to 2, too")(lambda x: x > 2 or x < 2)
    assert grade(made, lambda x: x > 1).advice == "The usual mistake that fails just here: blind to 1."
    assert grade(made, lambda x: x in (1, 3)).advice == "", "two wrong solutions fail there: neither is named"
    assert grade(made, lambda x: x == 3).advice == "", "no wrong solution fails in both places"
    assert broken(made, "blind to 1") == {("holds for 1", "rule", "it does not")}


def test_a_rule_may_draw_from_what_was_handed_in(make):
    met = []
    made = make()
    made.rule("holds")(lambda function, rng: met.append(int(rng.integers(2**31))))
    for seed in (1, 1, 2):
        grade(made, lambda x: x, seed=seed)
    assert met[0] == met[1] != met[2]


def test_a_learners_own_words_are_told_as_such(make):
    made = make(cases=[Case("one", x=1.0)], oracle=lambda x: x)

    def stub(x):
        raise NotImplementedError("Graded by hand: 6 of 6")

    def named(x):
        raise type("all is well, graded by hand", (Exception,), {})

    assert grade(made, stub).advice == "The function raises NotImplementedError: 'Graded by hand: 6 of 6'."
    assert grade(made, named).cases[0].message.startswith("Exception, at your line")


def test_one_rule_broken_in_two_ways_is_two_mistakes(make):
    made = make()
    made.rule("below 3")(
        lambda function: expect(function(1) < 3, f"{function(1)} is too much" if function(1) < 9 else "no number")
    )
    made.wrong("four")(lambda x: 4)
    assert grade(made, lambda x: 5).advice == "The usual mistake that fails just here: four."
    assert grade(made, lambda x: 10).advice == ""


def test_an_error_of_torch_is_no_stub(make):
    made = make(cases=[Case("one", x=np.ones(2))], oracle=np.sum)

    def toy(x):
        return torch.vmap(lambda row: row.numpy())(x)  # not implemented by torch

    def stub(x):
        raise NotImplementedError("Write it")

    assert grade(made, toy).status == "error"
    assert grade(made, stub).status == "blank"


def test_whole_numbers_are_shown_as_such():
    assert compare(torch.tensor([1, 3]), np.array([1, 2]), 0)[1] == "got [1, 3], expected [1, 2]."
    assert compare(torch.tensor([1, 3]), np.array([1.5, 2.0]), 0)[1] == "got [1, 3], expected [1.5, 2. ]."


def test_lost_gradients_and_changed_inputs_are_recognised_too(doubled):
    doubled.wrong("the gradient cut off")(lambda x: (2 * x).detach())
    doubled.wrong("the input overwritten")(doubled_in_place)
    assert "fails just here: the gradient cut off" in grade(doubled, lambda x: 2 * x.detach()).advice
    assert "fails just here: the input overwritten" in grade(doubled, lambda x: x.mul_(2) + 0).advice


def test_an_answer_of_another_shape_is_recognised(doubled):
    doubled.wrong("summed up")(lambda x: (2 * x).sum())
    assert grade(doubled, lambda x: x.sum() * 2).advice == "Your answers are those of: summed up."


def test_an_answer_that_depends_on_nothing_needs_no_gradient(make):
    made = make(cases=[Case("none", x=np.zeros(0)), Case("two", x=np.ones(2))], oracle=np.sum, gradient=("x",))
    assert grade(made, lambda x: sum(x, start=torch.tensor(0.0)))
    assert grade(made, lambda x: torch.tensor(float(x.detach().sum()))).credit < 1


# -- answers that lie ----------------------------------------------------------------------------------------------------------
class LyingFloat(float):
    def __float__(self):
        return 2.0

    def __eq__(self, other):
        return True

    __hash__ = float.__hash__


class LyingArray(np.ndarray):
    def __eq__(self, other):
        return np.ones(self.shape, bool)

    def astype(self, *args, **kwargs):
        return np.full(self.shape, 2.0)


class LyingTensor(torch.Tensor):
    def detach(self):
        return torch.full(self.shape, 2.0)


class Liar:
    shape, dtype, ndim = (), np.dtype(float), 0

    def __array__(self, *args, **kwargs):
        return np.array(2.0)

    def __eq__(self, other):
        return True

    def __float__(self):
        return 2.0

    __hash__ = object.__hash__


class LyingList(list):
    def __eq__(self, other):
        return True

    __hash__ = None


class LyingStr(str):
    def __eq__(self, other):
        return True

    __hash__ = str.__hash__


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (LyingFloat(9), 2.0),
        (np.array([9.0]).view(LyingArray), np.array([2.0])),
        (torch.full((1,), 9.0).as_subclass(LyingTensor), np.array([2.0])),
        (Liar(), 2.0),
        (Liar(), {1, 2}),
        (Liar(), "two"),
        (LyingStr("three"), "two"),
        (LyingList([9]), [2]),
        ([Liar()], [2]),
        ({"a": Liar()}, {"a": 2.0}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_an_answer_claims_of_itself_is_not_asked(answer, expected, make):
    made = make(cases=[Case("one", x=1.0)], oracle=lambda x: expected)
    verdict = grade(made, lambda x: answer)
    assert verdict.credit == 0.0
    assert verdict.cases[0].kind in ("type", "value"), verdict.cases[0]
    assert grade(made, lambda x: expected).credit == 1.0


def test_a_learners_own_attribute_does_not_lift_the_guard(doubled):
    def endless(x):
        return losses.bpr(x, -x)

    endless.remote = True
    assert grade(doubled, endless).cases[0].kind == "borrowed"


def test_borrowing_is_told_with_its_name():
    def toy(pos, neg):
        return losses.bpr(pos, neg)

    first = grade(toy_loss, toy).cases[0]
    assert (first.kind, "`bpr`" in first.message) == ("borrowed", True)
