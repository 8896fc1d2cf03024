"""A teacher's side: hand out lessons, grade what comes back, report.

- ``plan.py``: which exercises a lesson has, and what they are worth.
- ``result.py``: what one student got, as it is stored and reported.
"""
