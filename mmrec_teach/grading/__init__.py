"""Exercises, their real test cases, and verdicts.

- ``exercise.py``: what an exercise is (cases, oracle, properties, named wrong solutions): its docstring shows how to add one.
- ``exercises/lesson_NN.py``: the exercises of each lesson.
- ``engine.py``: ``grade(name, function) -> Verdict``; ``check(name)`` finds the learner's function and shows the verdict.
- ``record.py``: what the learner has passed, predicted and answered, in one small file.
"""

from mmrec_teach.grading.engine import check, grade
from mmrec_teach.grading.exercise import Case, Exercise, expect, find_exercise, load_exercises
from mmrec_teach.grading.verdict import CaseResult, Verdict

__all__ = ["Case", "CaseResult", "Exercise", "Verdict", "check", "expect", "find_exercise", "grade", "load_exercises"]
