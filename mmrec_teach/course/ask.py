"""`predict`, `reveal` and `quiz`: commit to an answer first, then see.

In a notebook these are widgets with words on every control, worked by mouse or keyboard. Without a front end (a notebook run by
nbclient, a script, IPython's plain terminal) nothing waits: a notebook stores the widget's static form, the others print the
question.
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Any

from mmrec_teach.errors import OptionError
from mmrec_teach.grading.engine import in_ipython, in_notebook
from mmrec_teach.grading.record import current_record, now

_BOX = "border-left:6px solid {ink};background:{tint};color:#1a1a1a;padding:.6em .9em;border-radius:4px;max-width:60em"
_BLUE = _BOX.format(ink="#1d4e89", tint="#eaf1f8")
_GREEN = _BOX.format(ink="#0b5d3b", tint="#e9f5ee")
_ORANGE = _BOX.format(ink="#8a3b00", tint="#fdf1e7")


class Note:
    """A short text that shows itself in a notebook and prints itself elsewhere.

    Args:
        text: the words.
        style: CSS of the box.
        markup: HTML to show instead of the escaped text.
    """

    def __init__(self, text: str, style: str = _BLUE, markup: str | None = None):
        self.text, self._style, self._markup = text, style, markup

    def __repr__(self) -> str:
        return self.text

    def _repr_html_(self) -> str:
        inner = self._markup if self._markup is not None else html.escape(self.text).replace("\n", "<br>")
        return f"<div style='{self._style}'>{inner}</div>"


def show(value: Any) -> None:
    """Display a widget or note in IPython; print it elsewhere."""
    if in_ipython():
        from IPython.display import display

        display(value)
    else:
        print(value)


def predict(id: str, question: str, options: Sequence[Any] | None = None, unit: str = "") -> None:
    """Ask for a prediction before the answer is shown. `reveal` with the same id compares it with what was measured.

    A prediction is committed once and for all: it is stored in the learner's progress file and shown again when the cell is
    re-run.

    Args:
        id: name of the prediction, unique in the course.
        question: what to predict.
        options: the answers to choose from; None asks for a number.
        unit: unit of the number, shown beside the field.
    Raises:
        OptionError: fewer than two options.
    """
    if options is not None and len(options) < 2:
        raise OptionError("a prediction needs at least two options", where=f"predict({id!r})", found=len(options))
    committed = current_record().get("predictions", id)
    if not in_notebook():
        print(f"Predict: {question}")
        for number, option in enumerate(options or (), start=1):
            print(f"  {number}. {option}")
        return
    import ipywidgets as widgets

    heading = widgets.HTML(f"<b>Your prediction.</b> {html.escape(question)}")
    status = widgets.HTML()
    if options is None:
        control: Any = widgets.FloatText(description="Number", tooltip=question)
        row = widgets.HBox([control, widgets.Label(unit)]) if unit else control
    else:
        labels = [str(option) for option in options]
        control = widgets.RadioButtons(options=labels, value=None, layout=widgets.Layout(width="auto"))
        row = control
    button = widgets.Button(
        description="Commit my prediction",
        tooltip="Store this prediction; it cannot be changed afterwards",
        layout=widgets.Layout(width="auto", align_self="flex-start"),
    )

    def settle(value: Any) -> None:
        control.disabled = button.disabled = True
        status.value = f"You predicted <b>{html.escape(_with_unit(value, unit))}</b>. Read on to see."

    def commit(_: Any) -> None:
        if control.value is None:
            status.value = "Choose an answer first, then commit it."
            return
        settle(control.value)
        current_record().put("predictions", id, {"question": question, "answer": control.value, "at": now()})

    button.on_click(commit)
    if committed is not None:
        # options may have changed since: show what was said even if it cannot be selected any more
        if options is None or committed["answer"] in control.options:
            control.value = committed["answer"]
        settle(committed["answer"])
    show(widgets.VBox([heading, row, button, status]))


def reveal(id: str, truth: Any, explanation: str = "", unit: str = "") -> Note:
    """What was measured, beside what the learner predicted.

    Args:
        id: of the prediction.
        truth: the right option, or the measured number.
        explanation: why it is so.
        unit: unit of the number.
    Returns:
        A note; a notebook shows it as the last line of a cell. Never stops a lesson: without a prediction it says so.
    """
    committed = current_record().get("predictions", id)
    measured = f"Measured: {_with_unit(truth, unit)}."
    if committed is None:
        text, style = f"You have not committed a prediction here. {measured}", _BLUE
    else:
        said = committed["answer"]
        if isinstance(truth, int | float) and isinstance(said, int | float):
            verdict, style = f"That is {abs(said - truth):.3g} away.", _BLUE
        elif str(said) == str(truth):
            verdict, style = "Your prediction holds.", _GREEN
        else:
            verdict, style = "It came out otherwise.", _ORANGE
        text = f"You predicted: {_with_unit(said, unit)}. {measured} {verdict}"
    note = Note(f"{text}\n{explanation}" if explanation else text, style)
    if not in_ipython():
        print(note)
    return note


def quiz(questions: Sequence[Mapping[str, Any]], id: str | None = None) -> None:
    """A short multiple-choice quiz; each answer is explained as soon as it is chosen.

    Args:
        questions: each a mapping with ``question``, ``options`` (two or more), ``answer`` (the right option, or its index) and
            ``why`` (one explanation, or one per option).
        id: name under which the answers are stored; by default made from the first question.
    Raises:
        OptionError: a question lacks a part, or its answer is not among its options.
    """
    checked = [_question(number, entry) for number, entry in enumerate(questions, start=1)]
    if not checked:
        raise OptionError("a quiz needs at least one question", where="quiz")
    name = id or checked[0]["question"][:60]
    if not in_notebook():
        for number, entry in enumerate(checked, start=1):
            print(f"Question {number}: {entry['question']}")
            for letter, option in zip("abcdefgh", entry["options"], strict=False):
                print(f"  {letter}. {option}")
        print("Answers:")
        for number, entry in enumerate(checked, start=1):
            print(f"  {number}. {entry['options'][entry['right']]}. {entry['why'][entry['right']]}")
        return
    import ipywidgets as widgets

    stored = dict(current_record().get("quizzes", name) or {})
    rows = []
    for number, entry in enumerate(checked, start=1):
        heading = widgets.HTML(f"<b>Question {number}.</b> {html.escape(entry['question'])}")
        choice = widgets.RadioButtons(options=entry["options"], value=None, layout=widgets.Layout(width="auto"))
        feedback = widgets.HTML()

        def answered(change: Any, number: int = number, entry: dict = entry, feedback: Any = feedback) -> None:
            if change["new"] is None:
                return
            index = entry["options"].index(change["new"])
            right = index == entry["right"]
            style, word = (_GREEN, "Right.") if right else (_ORANGE, "Not quite.")
            feedback.value = f"<div role='status' style='{style}'><b>{word}</b> {html.escape(entry['why'][index])}</div>"
            first = stored.get(str(number), {}).get("first_right", right)
            stored[str(number)] = {"right": right, "first_right": first}
            current_record().put("quizzes", name, dict(stored))

        choice.observe(answered, names="value")
        rows.append(widgets.VBox([heading, choice, feedback], layout=widgets.Layout(margin="0 0 .8em 0")))
    show(widgets.VBox(rows))


def _question(number: int, entry: Mapping[str, Any]) -> dict[str, Any]:
    where = f"quiz, question {number}"
    missing = [key for key in ("question", "options", "answer", "why") if key not in entry]
    if missing:
        raise OptionError(f"{missing[0]!r} is missing", where=where)
    options = [str(option) for option in entry["options"]]
    if len(options) < 2 or len(set(options)) != len(options):
        raise OptionError("a question needs two or more different options", where=where, found=options)
    answer = entry["answer"]
    if isinstance(answer, int) and not isinstance(answer, bool) and 0 <= answer < len(options):
        right = answer
    elif str(answer) in options:
        right = options.index(str(answer))
    else:
        raise OptionError("the answer is not among the options", where=where, found=answer, expected=f"one of {options}")
    why = entry["why"]
    whys = [why] * len(options) if isinstance(why, str) else [str(reason) for reason in why]
    if len(whys) != len(options):
        raise OptionError("one explanation per option is needed", where=where, found=len(whys), expected=str(len(options)))
    return {"question": str(entry["question"]), "options": options, "right": right, "why": whys}


def _with_unit(value: Any, unit: str) -> str:
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    return f"{text} {unit}" if unit else text
