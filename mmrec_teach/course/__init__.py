"""The course: masters become lessons, lessons become the learner's own copy.

``solutions/NN_slug.py`` is the master of a lesson and the only file of it written by hand. `mmrec-teach course build` makes
from it

- ``solutions/NN_slug.ipynb``: the solved notebook,
- ``lessons/NN_slug.py`` and ``lessons/NN_slug.ipynb``: the same with every solution region replaced by a blank,

and `mmrec-teach course start` copies the lessons into ``my_lessons/``, where the learner writes.
"""

from mmrec_teach.course.master import Exercise, Master, blank_text, course_root, find_lesson, load_masters

__all__ = ["Exercise", "Master", "blank_text", "course_root", "find_lesson", "load_masters"]
