"""Data sets: the frozen :class:`Dataset`, the bazaar generator, readers for real formats, splits and feature extraction."""

from mmrec_teach.data.dataset import Dataset, Interactions, Truth

__all__ = ["Dataset", "Interactions", "Truth"]
