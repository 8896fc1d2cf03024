"""Submissions that try to earn what they do not deserve, to harm the machine, or to stop the class: see ``table.py``."""
