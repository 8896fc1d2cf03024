"""Training: one loop that is a generator, negative sampling, checkpoints, early stopping."""

from mmrec_teach.training.fit import FitResult, fit
from mmrec_teach.training.loop import EpochRecord, Trainer, TrainingError, pick_device, train
from mmrec_teach.training.sampling import NegativeSampler

__all__ = ["EpochRecord", "FitResult", "NegativeSampler", "Trainer", "TrainingError", "fit", "pick_device", "train"]
