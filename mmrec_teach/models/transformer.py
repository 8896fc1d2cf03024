"""The Transformer's parts, written out (Vaswani et al. 2017, arXiv:1706.03762). Dropout is the model's own, passed in."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmrec_teach.errors import OptionError
from mmrec_teach.models.content import linear

Drop = Callable[[Tensor], Tensor]


class Attention(nn.Module):
    r"""Multi-head attention, :math:`\mathrm{softmax}(QK^\top/\sqrt{d_h})\,V` in every head, then one linear map of all heads.

    Args:
        dim: d of queries, memory and output.
        heads: h, a divisor of d; :math:`d_h = d/h`.
        generator: draws the initial values.
        bias: whether the maps have offsets.
        out: whether the last linear map exists (SASRec has none).

    Raises:
        OptionError: ``heads`` does not divide ``dim``.
    """

    def __init__(self, dim: int, heads: int, generator: torch.Generator, *, bias: bool = True, out: bool = True):
        super().__init__()
        if isinstance(heads, bool) or not isinstance(heads, int) or heads < 1 or dim % heads:
            raise OptionError("the heads do not divide the size", where="heads", found=heads, expected=f"a divisor of {dim}")
        self.heads = heads
        self.query, self.key, self.value = (linear(dim, dim, generator, bias=bias) for _ in range(3))
        self.out = linear(dim, dim, generator, bias=bias) if out else nn.Identity()

    def forward(self, x: Tensor, memory: Tensor, allowed: Tensor, drop: Drop) -> Tensor:
        """Return (B, Q, d): for each of ``x`` (B, Q, d) what it finds in ``memory`` (B, K, d).

        Args:
            x, memory: queries; keys and values.
            allowed: bool that broadcasts to (B, Q, K): what may be looked at; at least one place for every query.
            drop: dropout of the attention weights.
        """
        q, k, v = (
            part.unflatten(2, (self.heads, -1)).transpose(1, 2)  # (B, h, Q or K, d_h)
            for part in (self.query(x), self.key(memory), self.value(memory))
        )
        logits = (q / math.sqrt(q.shape[-1])) @ k.transpose(2, 3)  # (B, h, Q, K)
        weights = logits.masked_fill(~allowed.unsqueeze(-3), -torch.inf).softmax(-1)
        return self.out((drop(weights) @ v).transpose(1, 2).flatten(2))


class FeedForward(nn.Module):
    """Two linear maps and a bend between, the same at every place: d -> inner -> d."""

    def __init__(self, dim: int, inner: int, generator: torch.Generator, bend: Callable[[Tensor], Tensor]):
        super().__init__()
        self.first, self.second, self.bend = linear(dim, inner, generator), linear(inner, dim, generator), bend

    def forward(self, x: Tensor, drop: Drop) -> Tensor:
        """Return (…, d)."""
        return self.second(drop(self.bend(self.first(x))))


class EncoderLayer(nn.Module):
    """Self-attention and feed-forward, each added to its input and then normalised (post-norm, as BERT)."""

    def __init__(self, dim: int, heads: int, inner: int, generator: torch.Generator, eps: float = 1e-12):
        super().__init__()
        self.attention = Attention(dim, heads, generator)
        self.feed_forward = FeedForward(dim, inner, generator, F.gelu)
        self.norm_1, self.norm_2 = nn.LayerNorm(dim, eps), nn.LayerNorm(dim, eps)

    def forward(self, x: Tensor, allowed: Tensor, drop: Drop) -> Tensor:
        """Return (B, L, d); ``allowed`` as in :class:`Attention`."""
        x = self.norm_1(x + drop(self.attention(x, x, allowed, drop)))
        return self.norm_2(x + drop(self.feed_forward(x, drop)))


class DecoderLayer(nn.Module):
    """As :class:`EncoderLayer`, with attention to the encoder's memory between the two."""

    def __init__(self, dim: int, heads: int, inner: int, generator: torch.Generator, eps: float = 1e-12):
        super().__init__()
        self.attention, self.cross = Attention(dim, heads, generator), Attention(dim, heads, generator)
        self.feed_forward = FeedForward(dim, inner, generator, F.gelu)
        self.norm_1, self.norm_2, self.norm_3 = (nn.LayerNorm(dim, eps) for _ in range(3))

    def forward(self, x: Tensor, memory: Tensor, allowed: Tensor, remembered: Tensor, drop: Drop) -> Tensor:
        """Return (B, L, d); ``allowed`` for the places among themselves, ``remembered`` for the places' look at ``memory``."""
        x = self.norm_1(x + drop(self.attention(x, x, allowed, drop)))
        x = self.norm_2(x + drop(self.cross(x, memory, remembered, drop)))
        return self.norm_3(x + drop(self.feed_forward(x, drop)))


def causal(length: int, device: torch.device | None = None) -> Tensor:
    """Return (L, L) bool: place t (row) may look at the places up to t."""
    return torch.ones(length, length, dtype=torch.bool, device=device).tril()


@torch.no_grad()
def start_small(module: nn.Module, generator: torch.Generator, std: float = 0.02) -> None:
    """Draw every linear map and every table of ``module`` anew from N(0, std²), as BERT does; offsets become 0.

    Post-norm layers that start larger may settle, at large steps, where every history gets the same vector.
    """
    for part in module.modules():
        if isinstance(part, (nn.Linear, nn.Embedding)):
            part.weight.normal_(std=std, generator=generator)
            if getattr(part, "bias", None) is not None:
                part.bias.zero_()
