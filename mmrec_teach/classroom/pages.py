"""The pages of a report as self-contained HTML: a student's feedback, a teacher's summary.

No script, no picture or font from elsewhere. Nothing is told by colour alone; text keeps a contrast of at least 4.5 in light and dark.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from mmrec_teach.classroom.parts import for_student, has_hidden, notes_of, parts_of, standing, unreadable, untried
from mmrec_teach.classroom.result import ExerciseResult, StudentResult
from mmrec_teach.grading.sandbox import WORDS as WALL_WORDS
from mmrec_teach.grading.verdict import CaseResult

#: Colours by theme: what text stands on, and text. `tests/test_reports.py` computes their contrast.
LIGHT = {
    "paper": "#faf9f6", "card": "#ffffff", "ink": "#1f2933", "quiet": "#4f5a65", "line": "#d8dbd6", "link": "#0a5483",
    "good": "#0b5d3b", "good-tint": "#e6f3ec", "part": "#6b4a00", "part-tint": "#fbf1d9",
    "bad": "#8a3b00", "bad-tint": "#fcefe4", "none": "#4a5560", "none-tint": "#eef0f1", "tint": "#f1f3f0", "bar": "#2f6f9f",
}  # fmt: skip
DARK = {
    "paper": "#14181b", "card": "#1d2327", "ink": "#e9ecee", "quiet": "#b4bdc5", "line": "#3a444c", "link": "#8cc8f2",
    "good": "#84dcae", "good-tint": "#173226", "part": "#f0c977", "part-tint": "#352c17",
    "bad": "#f7b48a", "bad-tint": "#3a2619", "none": "#c3cad0", "none-tint": "#2a3238", "tint": "#262d32", "bar": "#6aaedd",
}  # fmt: skip

_STYLE = """
*,*::before,*::after{box-sizing:border-box}
html{color-scheme:light dark;-webkit-text-size-adjust:100%}
body{margin:0;background:var(--paper);color:var(--ink);font:1rem/1.6 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",
"Noto Sans","DejaVu Sans",sans-serif;overflow-wrap:anywhere}
.wide{max-width:66rem;margin:0 auto;padding:2rem 1.25rem 3rem}.narrow{max-width:48rem}
h1,h2,h3{line-height:1.25;margin:0;font-weight:650;text-wrap:balance}
h1{font-size:2rem;letter-spacing:-.015em}h2{font-size:1.3rem}h3{font-size:1rem;margin:1.35rem 0 .4rem}
p{margin:.55rem 0}a{color:var(--link);text-underline-offset:.15em}a:hover{text-decoration-thickness:2px}
:focus-visible{outline:3px solid var(--link);outline-offset:3px;border-radius:3px}
.skip{position:absolute;left:-999rem}.skip:focus{left:1rem;top:1rem;background:var(--card);padding:.5rem 1rem;z-index:1}
.eyebrow{color:var(--quiet);margin:0 0 .25rem;font-size:.95rem}
.quiet{color:var(--quiet)}.small{font-size:.9rem}
code{font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono",monospace;font-size:.9em;background:var(--tint);
padding:.08em .3em;border-radius:4px}
h1 code,h2 code,h3 code{background:none;padding:0;font-size:.95em}
.card>h3:first-child{margin-top:0}
.card{background:var(--card);border:1px solid var(--line);border-radius:12px;padding:1.35rem 1.5rem;margin:1.25rem 0}
.score{display:flex;flex-wrap:wrap;gap:.4rem 1.5rem;align-items:baseline}
.score b{font-size:2.6rem;font-weight:650;letter-spacing:-.02em;line-height:1.1}.score span{color:var(--quiet)}
.head{display:flex;flex-wrap:wrap;gap:.5rem 1rem;align-items:baseline;justify-content:space-between}
.head h2{flex:1 1 15rem}.points{white-space:nowrap;font-variant-numeric:tabular-nums;color:var(--quiet)}
.state{display:inline-block;border-radius:999px;padding:.1rem .7rem;font-size:.9rem;font-weight:600;white-space:nowrap}
.good{color:var(--good);background:var(--good-tint)}.part{color:var(--part);background:var(--part-tint)}
.bad{color:var(--bad);background:var(--bad-tint)}.none{color:var(--none);background:var(--none-tint)}
.say{border-left:4px solid currentColor;border-radius:0 8px 8px 0;padding:.6rem 1rem;margin:.9rem 0}
.say p{margin:.15rem 0;color:var(--ink)}.say strong{color:inherit}
ul.cases{list-style:none;margin:.3rem 0;padding:0}
ul.cases li{padding:.45rem 0 .45rem 1.6rem;border-top:1px solid var(--line);position:relative}
ul.cases li:first-child{border-top:0}
.sign{position:absolute;left:0;width:1.2rem;font-weight:700}.yes .sign{color:var(--good)}.no .sign{color:var(--bad)}
ul.cases p{margin:.1rem 0 0}
ul.cases.yes{columns:18rem 2;column-gap:2rem}ul.cases.yes li{break-inside:avoid;padding-top:.2rem;padding-bottom:.2rem;border:0}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}
th,td{text-align:left;padding:.5rem .9rem .5rem 0;border-top:1px solid var(--line);vertical-align:top}
thead th{border-top:0;font-weight:600;color:var(--quiet);font-size:.9rem;vertical-align:bottom;white-space:nowrap}tbody th{font-weight:500}
td.n,th.n{text-align:right;white-space:nowrap}td.n{padding-left:.6rem}th.n{padding-left:.9rem}td:last-child,th:last-child{padding-right:0}
.scroll{overflow-x:auto;overflow-wrap:normal;scrollbar-width:thin;scrollbar-color:var(--quiet) transparent;background:
linear-gradient(to right,var(--card) 40%,transparent) 0 0/3rem 100% no-repeat local,
linear-gradient(to left,var(--card) 40%,transparent) 100% 0/3rem 100% no-repeat local,
linear-gradient(to right,var(--line),transparent) 0 0/1rem 100% no-repeat scroll,
linear-gradient(to left,var(--line),transparent) 100% 0/1rem 100% no-repeat scroll}
.scroll th:first-child{min-width:8rem}.tight thead .n{white-space:normal}.tight .share,.tight thead .key{display:block}
.tight thead .key{margin:0 0 .25rem auto}.tight th,.tight td{padding-right:.5rem}.tight .n{padding-left:.4rem}.lab,svg.slim{display:none}
svg{display:block;max-width:100%;height:auto}svg text{fill:var(--ink);font:13px system-ui,sans-serif}
svg text.quiet{fill:var(--quiet)}.track{fill:var(--tint);stroke:var(--line)}.bar{fill:var(--bar)}
.f-good{fill:var(--good)}.f-part{fill:url(#lines)}.f-bad{fill:url(#dots)}.f-none{fill:var(--none-tint)}
.f-lost{fill:url(#rungs)}.f-open{fill:url(#posts)}.edge{fill:none;stroke:var(--quiet)}
.key{display:inline-block;vertical-align:-.1em;margin-right:.35rem}
dl.figures{display:grid;grid-template-columns:repeat(auto-fit,minmax(8rem,1fr));gap:.75rem 1.5rem;margin:1rem 0 1.5rem}
dl.figures div{margin:0}dl.figures dt{color:var(--quiet);font-size:.9rem}dl.figures dd{margin:0;font-size:1.5rem;font-weight:600}
ol.plain,ul.plain{margin:.4rem 0;padding-left:1.2rem}ul.plain li,ol.plain li{margin:.3rem 0}
.two{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,22rem),1fr));gap:0 2.5rem}
footer{color:var(--quiet);font-size:.9rem;margin-top:2rem}
@media (max-width:34rem){.wide{padding:1.25rem 1rem 2rem}.card{padding:1.1rem 1rem}h1{font-size:1.6rem}
table.stack thead{position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%)}
table.stack tr{display:grid;grid-template-columns:1fr auto;gap:.1rem 1rem;padding:.6rem 0;border-top:1px solid var(--line)}
table.stack th,table.stack td{border:0;padding:0}table.stack tbody tr>:first-child{grid-column:1/-1}}
@media screen and (max-width:46rem){svg.broad{display:none}svg.slim{display:block}
.fold thead{position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%)}.fold,.fold tbody{display:block}
.fold tr{display:block;padding:.7rem 0;border-top:1px solid var(--line)}.fold tr:first-child{border-top:0;padding-top:0}
.fold th,.fold td{display:flex;justify-content:space-between;gap:1rem;border:0;padding:.1rem 0;text-align:left;white-space:normal}
.fold th .quiet{font-weight:400}.fold th{display:block;font-weight:600;overflow-wrap:anywhere}.fold td>span:last-child{text-align:right}
.lab{display:inline;color:var(--quiet)}.tight .share{display:inline}}
@media print{:root{--paper:#fff;--card:#fff}body{font-size:10.5pt}.wide{padding:0;max-width:none}.skip{display:none}
.card{border:0;border-top:1px solid #999;border-radius:0;padding:.8rem 0;margin:.6rem 0}h2,h3{break-after:avoid}
ul.cases li,.say,tr,svg{break-inside:avoid}*{print-color-adjust:exact;-webkit-print-color-adjust:exact}a{color:inherit}}
"""

_FEW = 6  # names in one line
_UNSEEN = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")


@dataclass(frozen=True)
class Pointer:
    """Where a lesson explains what an exercise is about.

    Attributes:
        lesson_title: the lesson's first heading.
        section: the heading above the exercise.
        hint: the first of its hints.
    """

    lesson_title: str = ""
    section: str = ""
    hint: str = ""


# -- a student's page ---------------------------------------------------------------------------------------------------------
def feedback_page(result: StudentResult, pointers: Mapping[tuple[str, str], Pointer] | None = None) -> str:
    """The page of one student: the score, what passes and what does not, why, and what to read again.

    Args:
        result: of the student.
        pointers: by (lesson, exercise); see `mmrec_teach.classroom.report.find_pointers`.
    """
    pointers = pointers or {}
    title = next((found.lesson_title for (lesson, _), found in pointers.items() if lesson == result.lesson), "")
    lesson = f"Lesson {title}" if title[:1].isdigit() else f"Lesson {result.lesson}" + (f": {title}" if title else "")
    solved = sum(exercise.verdict.status == "passed" for exercise in result.exercises)
    rows = "".join(
        f"<tr><th scope='row'>{_jump(number, one.name, result)} <span class='quiet'>"
        f"{_inline(one.title)}</span></th><td>{_state(one)}</td><td class='n'>{one.score:g} of {one.points:g}</td></tr>"
        for number, one in enumerate(result.exercises, start=1)
    )
    notes = _notes_card(result)
    if reason := unreadable(result):
        cards = (
            "<section class='card' aria-labelledby='unread'><h2 id='unread'>Nothing could be graded</h2>"
            f"<div class='say bad'><p><strong>{_inline(_sentence(reason))}</strong></p></div></section>"
        )
    else:
        cards = "".join(
            _exercise_card(number, one, pointers.get((result.lesson, one.name)))
            for number, one in enumerate(result.exercises, start=1)
        )
    body = (
        f"<header><p class='eyebrow'>{_inline(lesson)}</p><h1>Feedback for <bdi>{_text(result.student)}</bdi></h1></header>"
        "<main id='main'>"
        "<section class='card' aria-labelledby='overall'><h2 id='overall' class='eyebrow'>Your score</h2>"
        f"<p class='score'><b>{result.score:g}</b><span>of {result.points:g} points</span>"
        f"<span>{_solved_words(solved, len(result.exercises))}</span></p>"
        f"{_score_bar(result)}"
        "<table class='stack'><thead><tr><th scope='col'>Exercise</th><th scope='col'>Where it stands</th>"
        f"<th scope='col' class='n'>Points</th></tr></thead><tbody>{rows}</tbody></table></section>"
        + notes
        + cards
        + "</main><footer>"
        f"<p>Graded from <code>{_text(result.file)}</code> by tests, with {_text(result.grader)}. "
        "The same work earns the same score whenever it is graded. "
        "If you think that a verdict is wrong, ask your teacher and name the exercise and the case.</p></footer>"
    )
    return _page(f"Feedback for {result.student}, lesson {result.lesson}", body, narrow=True)


def _jump(number: int, name: str, result: StudentResult) -> str:
    """The exercise's name, leading to its card where there is one."""
    code = f"<code>{_text(name)}</code>"
    return code if unreadable(result) else f"<a href='#exercise-{number}'>{code}</a>"


def _solved_words(solved: int, total: int) -> str:
    if total == 1:
        return "the exercise is solved" if solved else "the exercise is not solved yet"
    if solved == total:
        return f"all {total} exercises solved"
    return f"{solved} of {total} exercises solved" if solved else "no exercise solved yet"


_STANDING_WORDS = {
    "solved": ("good", "✓", "Solved"), "partly": ("part", "◐", "Partly solved"), "nothing": ("bad", "✗", "Not yet"),
    "not written": ("none", "…", "Not written yet"), "not found": ("none", "?", "Not found"),
    "not graded": ("none", "–", "Not graded yet"),
}  # fmt: skip


def _standing(exercise: ExerciseResult) -> tuple[str, str, str]:
    """Style, sign and words for where an exercise stands."""
    found = standing(exercise)
    if found == "nothing" and exercise.verdict.status == "error":
        return "bad", "!", "Stops with an error"
    return _STANDING_WORDS[found]


def _state(exercise: ExerciseResult) -> str:
    style, sign, words = _standing(exercise)
    return f"<span class='state {style}'><span aria-hidden='true'>{sign}</span> {words}</span>"


def _notes_card(result: StudentResult) -> str:
    said = notes_of(result)
    if not said:
        return ""
    listed = "".join(f"<li>{_inline(note)}</li>" for note in said)
    return (
        "<section class='card' aria-labelledby='notes'><h2 id='notes'>Notes on your file</h2>"
        f"<p class='quiet'>None of these cost a point.</p><ul class='plain'>{listed}</ul></section>"
    )


def _exercise_card(number: int, exercise: ExerciseResult, pointer: Pointer | None) -> str:
    verdict, hidden = exercise.verdict, has_hidden(exercise)
    style, *_ = _standing(exercise)
    out = [
        f"<section class='card' id='exercise-{number}' aria-labelledby='title-{number}'>"
        f"<div class='head'><h2 id='title-{number}'><code>{_text(exercise.name)}</code></h2>{_state(exercise)}"
        f"<span class='points'>{exercise.score:g} of {_count(exercise.points, 'point')}</span></div>"
        f"<p class='quiet'>{_inline(_capital(exercise.title))}</p>"
    ]
    tried = verdict.status not in ("blank", "missing")
    advice = _sentence(verdict.advice)
    if verdict.status == "blank" and (not advice or exercise.title in advice):
        advice = "The line that raises `NotImplementedError` is still there: put your own lines in its place."
    elif not advice and 0 < exercise.score < exercise.points:
        advice = "The answers are right; something else is missing."
    if advice:
        out.append(f"<div class='say {style}'><p><strong>{_inline(advice)}</strong></p></div>")
    if tried:
        failed = [case for case in verdict.cases if not case.passed and not untried(case)]
        waiting = [_inline(case.name) for case in verdict.cases if untried(case)]
        passed = [case for case in verdict.cases if case.passed]
        if failed:
            out.append(f"<h3>Not yet ({len(failed)})</h3>{_cases(failed, hidden)}")
        if waiting:
            if len(waiting) > _FEW:
                waiting[_FEW - 1 :] = [f"and {len(waiting) - _FEW + 1} more"]
            out.append(f"<p class='quiet small'>Not tried, because of what fails above: {'; '.join(waiting)}.</p>")
        if passed:
            out.append(f"<h3>Holds ({len(passed)})</h3>{_cases(passed, hidden)}")
        parts = parts_of(exercise)
        if 0 < exercise.score < exercise.points and len(parts) > 1:
            told = "; ".join(f"{_lower(part.title)} {part.score:g} of {part.points:g}" for part in parts)
            out.append(f"<p class='quiet small'>How the points come about: {_text(told)}.</p>")
        elif not exercise.score and passed and exercise.points:
            out.append("<p class='quiet small'>What holds is paid as soon as all answers are right.</p>")
    if verdict.status != "passed":
        out.append(_again(exercise, pointer))
    return "".join(out) + "</section>"


def _cases(cases: Iterable[CaseResult], hidden: bool) -> str:
    """A list of cases; those of which the same is to be said stand together."""
    alike: dict[tuple, list[CaseResult]] = {}
    for place, case in enumerate(cases):
        said = for_student(case, hidden)
        alike.setdefault((said,) if said else (said, place), []).append(case)
    items = []
    for (said, *_), together in alike.items():
        sign, word = ("✓", "Holds: ") if together[0].passed else ("✗", "Not yet: ")
        names = "<br>".join(
            f"<span class='sign' aria-hidden='true'>{sign}</span><span class='gone'>{word}</span>{_inline(case.name)}"
            + (" <span class='quiet small'>(hidden case)</span>" if case.group == "hidden" else "")
            for case in together
        )
        items.append(f"<li>{names}" + (f"<p class='quiet'>{_inline(_sentence(said))}</p>" if said else "") + "</li>")
    kind = "yes" if all(case.passed for case in cases) else "no"
    return f"<ul class='cases {kind}'>{''.join(items)}</ul>"


def _again(exercise: ExerciseResult, pointer: Pointer | None) -> str:
    words = []
    if pointer and pointer.section:
        words.append(f"Read the section <strong>{_inline(pointer.section)}</strong> of the lesson once more.")
    else:
        words.append(f"Read again what the lesson says before this exercise: {_inline(exercise.title)}.")
    if pointer and pointer.hint and not exercise.score:  # who has the answers right is past the first hint
        words.append(f"A first hint: {_inline(pointer.hint)}")
    words.append(
        f'<code>hint("{_text(exercise.name)}")</code> in the notebook gives more hints, and '
        f'<code>check("{_text(exercise.name)}")</code> tells at once whether it holds.'
    )
    return "<h3>What to look at again</h3>" + "".join(f"<p>{sentence}</p>" for sentence in words)


def _score_bar(result: StudentResult) -> str:
    """One bar, a piece for each exercise as wide as its points, filled as far as they were earned. The table says the same."""
    if not result.points:
        return ""
    width, gap, x, pieces = 700.0, 6.0, 0.0, []
    room = width - gap * (len(result.exercises) - 1)
    for one in result.exercises:
        span = room * one.points / result.points
        pieces.append(f"<rect class='track' x='{x + 0.5:.1f}' y='.5' width='{max(span - 1, 1):.1f}' height='13' rx='4'/>")
        if one.score and one.points:
            pieces.append(
                f"<rect class='bar' x='{x:.1f}' y='0' width='{span * one.score / one.points:.1f}' height='14' rx='4'/>"
            )
        x += span + gap
    words = f"{result.score:g} of {result.points:g} points"
    return (
        f"<svg viewBox='0 0 {width:g} 14' width='{width:g}' height='14' role='img' aria-label='{words}' style='margin:.4rem 0 1.1rem'>"
        f"{''.join(pieces)}</svg>"
    )


# -- a teacher's summary ------------------------------------------------------------------------------------------------------
#: key, words, style, always shown
_STANDINGS = (("solved", "Solved", "good", True), ("partly", "Partly", "part", True), ("nothing", "Nothing yet", "bad", True),
              ("not_written", "Not written", "none", True), ("not_found", "Not found", "lost", False),
              ("not_graded", "Not graded", "open", False))  # fmt: skip


_RARE = {
    "not_found": "“Not found” is a function under another name, or a file that cannot be read.",
    "not_graded": "“Not graded” is a fault of the grader: run <code>mmrec-teach grade</code> again.",
}


def summary_page(summary: Mapping[str, Any]) -> str:
    """The teacher's page, from what `mmrec_teach.classroom.report.summarise` returns."""
    lessons = summary["lessons"]
    contents = ""
    if len(lessons) > 1:
        links = "".join(
            f"<li><a href='#lesson-{number}'>{_text(one['lesson'])}</a></li>" for number, one in enumerate(lessons, start=1)
        )
        contents = f"<nav aria-label='Lessons'><ul class='plain'>{links}</ul></nav>"
    without = _without_score(
        "Nothing to grade",
        "No file of theirs could be graded. <code>class.csv</code> lists them without a score.",
        summary["nothing_to_grade"],
    ) + _without_score(
        "Left out of this report",
        "These stored results are damaged. <code>class.csv</code> lists the students without a score.",
        summary["damaged"],
    )
    names = ", ".join(lesson["lesson"] for lesson in lessons)
    graded = {one["student"] for lesson in lessons for one in lesson["results"]}
    absent = len({one["student"] for one in summary["nothing_to_grade"]} - graded)
    more = f"; {absent} more handed in nothing to grade" if absent else ""
    graders = ", ".join(dict.fromkeys(words for lesson in lessons for words in lesson["graders"]))
    body = (
        f"<header><p class='eyebrow'>For the teacher</p><h1>How the class did</h1>"
        f"<p class='quiet'>{_count(len(graded), 'student')}; {_count(len(lessons), 'lesson')}: {_text(names)}{more}</p>{contents}</header>"
        f"<main id='main'>{without}"
        + "".join(_lesson_section(number, lesson) for number, lesson in enumerate(lessons, start=1))
        + "</main><footer><p>This page names students: it is not for the class. Each name leads to the page meant for that "
        f"student. <code>summary.json</code> holds the same figures. Graded with {_text(graders)}.</p></footer>"
    )
    return _page(f"Class summary: {names}", body, patterns=True)


def _without_score(title: str, words: str, entries: Iterable[Mapping[str, str]]) -> str:
    """A card with students who have no score, and why; "" when there are none. ``words`` is markup."""
    alike: dict[tuple[str, str], dict[str, None]] = {}
    for one in entries:
        alike.setdefault((one["student"], one["sentence"]), {}).setdefault(one["file"])
    if not alike:
        return ""
    name = title.lower().replace(" ", "-")
    listed = "".join(
        f"<li><bdi><strong>{_text(student)}</strong></bdi>: {_inline(_about_file(student, sentence, files))}"
        # most sentences name the file themselves
        + "".join(f" <span class='quiet small'>({_text(file)})</span>" for file in files if file not in (student, ""))
        * all(file not in sentence for file in files)
        + "</li>"
        for (student, sentence), files in alike.items()
    )
    return (
        f"<section class='card' aria-labelledby='{name}'><h2 id='{name}'>{title}</h2>"
        f"<p class='quiet'>{words}</p><ul class='plain'>{listed}</ul></section>"
    )


def _about_file(student: str, sentence: str, files: Iterable[str]) -> str:
    """A sentence without the name that stands before it already; a file's name at its start keeps its letters."""
    sentence = sentence.removeprefix(f"{student}: ")
    return sentence if sentence.startswith(tuple(filter(None, files))) else _sentence(sentence)


def _lesson_section(number: int, lesson: Mapping[str, Any]) -> str:
    pages = {one["student"]: one["page"] for one in lesson["results"]}
    title = lesson["title"] if lesson["title"][:1].isdigit() else f"{lesson['lesson']} {lesson['title']}".strip()
    points = f"{lesson['points']:g}"
    figures = (
        ("Students", f"{lesson['students']}"),
        ("Mean", f"{lesson['mean']:g} of {points}"),
        ("Median", f"{lesson['median']:g} of {points}"),
        ("Lowest and highest", f"{lesson['lowest']:g} and {lesson['highest']:g}"),
    )
    listed = "".join(f"<div><dt>{_text(name)}</dt><dd>{_text(value)}</dd></div>" for name, value in figures)
    return (
        f"<section id='lesson-{number}' aria-labelledby='lesson-title-{number}'>"
        f"<h2 id='lesson-title-{number}' style='margin-top:2rem'>Lesson {_inline(title)}</h2>"
        f"<div class='card'><h3>Scores</h3><dl class='figures'>{listed}</dl>{_histogram(lesson)}</div>"
        f"<div class='card'><h3>Exercises</h3>{_exercise_table(lesson)}</div>"
        f"{_misunderstood(lesson, pages)}{_attention(lesson, pages)}{_students(lesson)}</section>"
    )


def _histogram(lesson: Mapping[str, Any]) -> str:
    """Bars of the number of students by share of the points, for a wide screen and for a narrow one; one of them is shown."""
    steps = lesson["distribution"]
    told = "; ".join(f"{step['percent']}: {step['students']}" for step in steps if step["students"])
    label = f"Number of students by percent of the points. {_text(told)}."
    long = [step["percent"].replace(" to ", "–").replace(" %", "") for step in steps]
    short = [words.partition("–")[0] for words in long]
    return _bars(steps, long, 720, label, "broad") + _bars(steps, short, 320, label, "slim")


def _bars(steps: Iterable[Mapping[str, Any]], labels: list[str], width: int, label: str, style: str) -> str:
    counts = [step["students"] for step in steps]
    height, base, slot = 190, 150, width / len(counts)
    pieces = [f"<line x1='0' x2='{width}' y1='{base}' y2='{base}' stroke='var(--line)'/>"]
    for place, (count, words) in enumerate(zip(counts, labels, strict=True)):
        tall, middle = 115 * count / max(1, *counts), slot * (place + 0.5)
        if count:
            pieces.append(
                f"<rect class='bar' x='{middle - slot * 0.36:.1f}' y='{base - tall:.1f}' width='{slot * 0.72:.1f}' "
                f"height='{tall:.1f}' rx='3'/>"
                f"<text x='{middle:.1f}' y='{base - tall - 7:.1f}' text-anchor='middle'>{count}</text>"
            )
        pieces.append(f"<text class='quiet' x='{middle:.1f}' y='{base + 18}' text-anchor='middle'>{words}</text>")
    under = "percent of the points" if style == "broad" else "percent of the points, from"
    pieces.append(f"<text class='quiet' x='{width}' y='{height - 4}' text-anchor='end'>{under}</text>")
    return (
        f"<svg class='{style}' viewBox='0 0 {width} {height}' width='{width}' height='{height}' role='img' "
        f"aria-label='{label}' style='width:100%'>{''.join(pieces)}</svg>"
    )


def _shown_standings(lesson: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Those that have a column: the usual ones, and any that occurs."""
    return [
        (key, words, style)
        for key, words, style, always in _STANDINGS
        if always or any(one[key] for one in lesson["exercises"])
    ]


def _exercise_table(lesson: Mapping[str, Any]) -> str:
    shown = _shown_standings(lesson)
    heads = "".join(f"<th scope='col' class='n'>{_key(style)}{_text(words)}</th>" for _, words, style in shown)
    rows = []
    for one in lesson["exercises"]:
        total = sum(one[key] for key, *_ in shown)
        cells = "".join(
            f"<td class='n'>{_label(words, _key(style))}<span>{one[key]} <span class='quiet small share'>({one[key] / total:.0%})</span>"
            "</span></td>"
            for key, words, style in shown
        )
        rows.append(
            f"<tr><th scope='row'><code>{_text(one['name'])}</code><br><span class='quiet small'>{_inline(one['title'])}</span></th>"
            f"<td>{_standing_bar(one, total)}</td>{cells}"
            f"<td class='n'>{_label('Mean')}<span>{one['mean']:g} of {one['points']:g}</span></td></tr>"
        )
    told = {key: f" {words}" for key, words in _RARE.items() if any(one[key] for one in lesson["exercises"])}
    more = "".join(told.values())
    return (
        f"<p class='quiet'>How many students solved each exercise, got part of its points, tried it in vain, or left it out.{more}</p>"
        "<div class='scroll' tabindex='0' role='group' aria-label='Exercises'><table class='fold tight'>"
        f"<thead><tr><th scope='col'>Exercise</th><th scope='col'>Shares</th>{heads}<th scope='col' class='n'>Mean</th></tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _label(words: str, key: str = "") -> str:
    """A column's heading inside a cell, for screens so narrow that each row becomes a block."""
    return f"<span class='lab'>{key}{_text(words)}</span>"


def _standing_bar(one: Mapping[str, Any], total: int) -> str:
    width, x, pieces, told = 150.0, 0.0, [], []
    for key, words, style, _ in _STANDINGS:
        span = width * one[key] / total
        if one[key]:
            pieces.append(f"<rect class='f-{style}' x='{x:.1f}' y='0' width='{span:.1f}' height='18'/>")
            pieces.append(f"<rect class='edge' x='{x + 0.5:.1f}' y='.5' width='{max(span - 1, 0.5):.1f}' height='17'/>")
            told.append(f"{_lower(words)} {one[key]}")
        x += span
    return (
        f"<svg viewBox='0 0 {width:g} 18' width='{width:g}' height='18' role='img' aria-label='{', '.join(told)}' "
        f"style='min-width:5.5rem'>{''.join(pieces)}</svg>"
    )


def _key(style: str) -> str:
    return (
        "<svg class='key' viewBox='0 0 14 14' width='14' height='14' aria-hidden='true'>"
        f"<rect class='f-{style}' width='14' height='14'/><rect class='edge' x='.5' y='.5' width='13' height='13'/></svg>"
    )


def _misunderstood(lesson: Mapping[str, Any], pages: Mapping[str, str]) -> str:
    misconceptions = sorted(
        ((found, one["name"]) for one in lesson["exercises"] for found in one["misconceptions"]),
        key=lambda pair: -pair[0]["count"],
    )
    out = ["<div class='card'><h3>What was misunderstood</h3>"]
    if misconceptions:
        out.append(
            "<p class='quiet'>Answers that equal those of a known misconception, the most frequent first.</p><ol class='plain'>"
        )
        out += [
            f"<li>{_inline(_capital(found['name']))} <span class='quiet'>(<code>{_text(name)}</code>)</span>: "
            f"{_count(found['count'], 'student')}<br><span class='small'>{_names(found['students'], pages)}</span></li>"
            for found, name in misconceptions
        ]
        out.append("</ol>")
    else:
        out.append("<p>No answer equals those of a known misconception.</p>")
    failing = sorted(
        ((found, one["name"]) for one in lesson["exercises"] for found in one["failing"] if found["often"]),
        key=lambda pair: -pair[0]["count"],
    )
    if failing:
        rows = "".join(
            f"<tr><th scope='row'>{_inline(found['case'])}</th><td>{_label('Exercise')}<code>{_text(name)}</code></td>"
            f"<td>{_label('Kind')}<span>{_text(_GROUPS.get(found['group'], found['group']))}</span></td>"
            f"<td class='n'>{_label('Students')}<span>{found['count']}</span></td></tr>"
            for found, name in failing[:10]
        )
        more = f" The ten most frequent of {len(failing)}." if len(failing) > 10 else ""
        out.append(
            "<h3>Cases that fail most often</h3><p class='quiet'>Failed by more students than the exercise's cases are on average, "
            f"among those who wrote the function.{more} All cases are in <code>summary.json</code>.</p>"
            "<div class='scroll' tabindex='0' role='group' aria-label='Failing cases'><table class='fold'>"
            "<thead><tr><th scope='col'>Case or rule</th><th scope='col'>Exercise</th><th scope='col'>Kind</th>"
            f"<th scope='col' class='n'>Students</th></tr></thead><tbody>{rows}</tbody></table></div>"
        )
    return "".join(out) + "</div>"


_GROUPS = {"examples": "example", "random": "random case", "hidden": "hidden case", "rules": "rule", "core": "rule",
           "inputs": "inputs", "steady": "same answer twice"}  # fmt: skip


def _attention(lesson: Mapping[str, Any], pages: Mapping[str, str]) -> str:
    out = []
    if lesson["incidents"]:
        items = "".join(
            f"<li>{_names([one['student']], pages)}{_about(one['exercise'])}: {_inline(one['words'])}"
            + (f" ({_count(one['cases'], 'case')})" if "cases" in one else "")
            + "</li>"
            for one in lesson["incidents"]
        )
        out.append(f"<h3>Timeouts, crashes, borrowed answers, functions not found</h3><ul class='plain'>{items}</ul>")
    if lesson["identical"]:
        items = "".join(f"<li>{_names(students, pages)}</li>" for students in lesson["identical"])
        out.append(
            f"<h3>The same code to the letter</h3><p class='quiet'>Short functions often come out alike; the same whole file is rarer. "
            f"It is a reason to ask, not a proof.</p><ul class='plain'>{items}</ul>"
        )
    if lesson["notes"]:
        items = "".join(
            f"<li>{_names([one['student']], pages)}: {_inline(' '.join(dict.fromkeys(one['notes'])))}</li>"
            for one in lesson["notes"]
        )
        out.append(f"<h3>Notes on files</h3><ul class='plain'>{items}</ul>")
    walls = "; ".join(f"{WALL_WORDS.get(wall, wall)} ({_count(count, 'student')})" for wall, count in lesson["walls"].items())
    out.append(f"<h3>How the code was kept apart</h3><p>{_text(_capital(walls))}.</p>")
    if len(lesson["graders"]) > 1:
        told = "; ".join(f"{words}: {_count(count, 'student')}" for words, count in lesson["graders"].items())
        out.append(
            "<h3>Graded by different versions</h3><p>These scores do not compare well: run <code>mmrec-teach grade</code> again, "
            f"and all are graded by one. {_text(told)}.</p>"
        )
    return f"<div class='card'>{''.join(out)}</div>"


def _about(exercise: str) -> str:
    return f", <code>{_text(exercise)}</code>" if exercise else ""


def _students(lesson: Mapping[str, Any]) -> str:
    names = [one["name"] for one in lesson["exercises"]]
    signs = {"solved": "✓ solved", "partly": "◐ partly", "nothing": "✗ not yet", "not written": "… not written",
             "not found": "? not found", "not graded": "– not graded"}  # fmt: skip
    heads = "".join(f"<th scope='col'><code>{_text(name)}</code></th>" for name in names)
    rows = "".join(
        f"<tr><th scope='row'><a href='{html.escape(one['page'])}'><bdi>{_text(one['student'])}</bdi></a></th>"
        + "".join(f"<td>{_label(name)}<span>{signs.get(one['exercises'].get(name, ''), '')}</span></td>" for name in names)
        + f"<td class='n'>{_label('Score')}<span>{one['score']:g} of {one['points']:g}</span></td></tr>"
        for one in lesson["results"]
    )
    return (
        "<div class='card'><h3>Students</h3><div class='scroll' tabindex='0' role='group' aria-label='Students'>"
        f"<table class='fold'><thead><tr><th scope='col'>Student</th>{heads}<th scope='col' class='n'>Score</th></tr></thead>"
        f"<tbody>{rows}</tbody></table></div></div>"
    )


def _names(students: Iterable[str], pages: Mapping[str, str]) -> str:
    return ", ".join(f"<a href='{html.escape(pages.get(name, ''))}'><bdi>{_text(name)}</bdi></a>" for name in students)


# -- shared -------------------------------------------------------------------------------------------------------------------
def _page(title: str, body: str, *, narrow: bool = False, patterns: bool = False) -> str:
    light, dark = (";".join(f"--{name}:{value}" for name, value in theme.items()) for theme in (LIGHT, DARK))
    defs = (
        "<svg width='0' height='0' aria-hidden='true' style='position:absolute'><defs>"
        "<pattern id='lines' width='6' height='6' patternUnits='userSpaceOnUse' patternTransform='rotate(45)'>"
        "<rect width='6' height='6' style='fill:var(--part-tint)'/><rect width='2.5' height='6' style='fill:var(--part)'/></pattern>"
        "<pattern id='dots' width='6' height='6' patternUnits='userSpaceOnUse'><rect width='6' height='6' style='fill:var(--bad-tint)'/>"
        "<circle cx='3' cy='3' r='1.5' style='fill:var(--bad)'/></pattern>"
        "<pattern id='rungs' width='6' height='6' patternUnits='userSpaceOnUse'><rect width='6' height='6' style='fill:var(--none-tint)'/>"
        "<rect width='6' height='1.5' style='fill:var(--none)'/></pattern>"
        "<pattern id='posts' width='5' height='5' patternUnits='userSpaceOnUse'><rect width='5' height='5' style='fill:var(--none-tint)'/>"
        "<rect width='1.5' height='5' style='fill:var(--none)'/></pattern></defs></svg>"
    )
    return (
        "<!DOCTYPE html>\n<html lang='en'><head><meta charset='utf-8'>"
        "<meta http-equiv='Content-Security-Policy' content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        "<meta name='viewport' content='width=device-width, initial-scale=1'><meta name='robots' content='noindex'>"
        f"<title>{_text(title)}</title><style>:root{{{light}}}"
        f"@media screen and (prefers-color-scheme:dark){{:root{{{dark}}}}}"
        f"{_STYLE}.gone{{position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%);white-space:nowrap}}</style></head>"
        f"<body><a class='skip' href='#main'>To the content</a>{defs if patterns else ''}"
        f"<div class='wide{' narrow' if narrow else ''}'>{body}</div></body></html>\n"
    )


def _text(text: str) -> str:
    """Escaped, and free of characters no page may hold."""
    return html.escape(_UNSEEN.sub("�", text))


def _inline(text: str) -> str:
    """As `_text`, with `code` between backticks set as code."""
    return re.sub(r"`([^`\n]+)`", r"<code>\1</code>", _text(text))


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _sentence(text: str) -> str:
    """With a capital and a full stop."""
    text = _capital(text.strip())
    return text if not text or text.endswith((".", "!", "?", ":", "…")) else f"{text}."


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]


def _count(number: float, thing: str) -> str:
    return f"{number:g} {thing}" if number == 1 else f"{number:g} {thing}s"
