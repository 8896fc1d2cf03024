"""What runs beside a student's code, in a process that holds no expected value, no hidden case and no verdict.

Inside the sandbox this folder stands alone, without the rest of the package: its modules import nothing but each other, the
standard library, numpy, scipy and torch. The grader imports the same modules where both sides must agree.

- ``wire.py``: values as npz bytes without pickle, exact types only, sizes bounded.
- ``cells.py``: which statements of a submission an exercise needs, and running those alone.
- ``telling.py``: an exception in the words a learner reads.
- ``patience.py``: time limits inside a process.
- ``effort.py``: what a function makes, and how often it calls torch.
- ``away.py``: the course's package, absent while a function is graded.
- ``jail.py``: limits, seccomp and Landlock.
- ``player.py``: the process itself: a warm parent that forks one child for each exercise of each submission.
"""
