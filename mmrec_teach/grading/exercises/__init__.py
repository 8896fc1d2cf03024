"""The exercises, one module per lesson: ``lesson_NN.py`` (see `mmrec_teach.grading.exercise` for how to write one)."""
