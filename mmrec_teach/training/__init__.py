"""Training: one loop that is a generator, negative sampling, checkpoints, early stopping."""

from mmrec_teach.training.fit import FitResult, fit
from mmrec_teach.training.gradients import GradientReport, gradient_report
from mmrec_teach.training.loop import EpochRecord, Trainer, TrainingError, pick_device, train
from mmrec_teach.training.sampling import NegativeSampler

__all__ = [
    "EpochRecord",
    "FitResult",
    "GradientReport",
    "NegativeSampler",
    "Trainer",
    "TrainingError",
    "fit",
    "gradient_report",
    "pick_device",
    "train",
]
