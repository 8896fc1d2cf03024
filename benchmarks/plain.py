"""The plain baseline: BPR, VBPR and LightGCN trained and evaluated the way public research code commonly does it.

Written for this comparison, to stand beside the package in one run. It keeps the habits that cost time:

- the adjacency as a COO tensor, multiplied with ``torch.sparse.mm`` and differentiated by autograd; layers stacked, then
  averaged;
- one negative at a time, drawn in Python and drawn again while it is in the user's set;
- batches cut from a pandas table; content of the whole catalogue projected at every step;
- all layers propagated anew for every block of users in evaluation, 4,096 users a block;
- hits found with a Python loop over users and ranks.
"""

from __future__ import annotations

import random

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from mmrec_teach.data import Dataset

KS = (5, 10, 20, 50)


def bpr_loss(positive: Tensor, negative: Tensor) -> Tensor:
    return -torch.log(1e-10 + torch.sigmoid(positive - negative)).mean()


def norm_loss(*tables: Tensor) -> Tensor:
    return sum(torch.norm(table, p=2) for table in tables) / tables[-1].shape[0]


class PlainModel(nn.Module):
    """Tables of users and items; ``forward`` returns the tables to score with."""

    def __init__(self, data: Dataset, dim: int, user_dim: int | None = None, reg_weight: float = 1e-4):
        super().__init__()
        self.n_users, self.n_items, self.reg_weight = data.n_users, data.n_items, reg_weight
        self.users = nn.Parameter(nn.init.xavier_uniform_(torch.empty(data.n_users, user_dim or dim)))
        self.items = nn.Parameter(nn.init.xavier_uniform_(torch.empty(data.n_items, dim)))

    def forward(self) -> tuple[Tensor, Tensor]:
        return self.users, self.items

    def regularised(self, users: Tensor, items: Tensor) -> tuple[Tensor, Tensor]:
        """Return the tables whose rows the penalty is on."""
        return users, items

    def loss(self, user: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
        users, items = self.forward()
        u, i, j = users[user], items[positive], items[negative]
        penalised_users, penalised_items = self.regularised(users, items)
        penalty = norm_loss(penalised_users[user], penalised_items[positive], penalised_items[negative])
        return bpr_loss((u * i).sum(1), (u * j).sum(1)) + self.reg_weight * penalty

    def predict(self, user: Tensor) -> Tensor:
        users, items = self.forward()
        return users[user] @ items.T


class PlainBPR(PlainModel):
    """Matrix factorisation."""


class PlainVBPR(PlainModel):
    """User vectors of width 2d; item vectors are (own | projected content)."""

    def __init__(self, data: Dataset, dim: int):
        super().__init__(data, dim, user_dim=2 * dim)
        self.features = torch.from_numpy(np.concatenate([data.features[m] for m in data.modalities], 1))
        self.linear = nn.Linear(self.features.shape[1], dim)

    def forward(self) -> tuple[Tensor, Tensor]:
        return self.users, torch.cat([self.items, self.linear(self.features)], 1)


class PlainLightGCN(PlainModel):
    """Two products with a COO matrix, autograd's own backward."""

    def __init__(self, data: Dataset, dim: int, n_layers: int = 2):
        super().__init__(data, dim)
        self.n_layers = n_layers
        users, items = data.train.users, data.train.items + data.n_users
        rows, columns = np.concatenate([users, items]), np.concatenate([items, users])
        degree = np.bincount(rows, minlength=data.n_users + data.n_items) + 1e-7
        values = degree[rows] ** -0.5 * degree[columns] ** -0.5
        order = np.lexsort((columns, rows))
        index = torch.from_numpy(np.stack([rows[order], columns[order]]))
        side = data.n_users + data.n_items
        self.adjacency = torch.sparse_coo_tensor(index, torch.from_numpy(values[order]).float(), (side, side))

    def forward(self) -> tuple[Tensor, Tensor]:
        layer = torch.cat([self.users, self.items], 0)
        layers = [layer]
        for _ in range(self.n_layers):
            layer = torch.sparse.mm(self.adjacency, layer)
            layers.append(layer)
        final = torch.mean(torch.stack(layers, dim=1), dim=1)
        return final[: self.n_users], final[self.n_users :]

    def regularised(self, users: Tensor, items: Tensor) -> tuple[Tensor, Tensor]:
        return self.users, self.items


MODELS = {"bpr": PlainBPR, "vbpr": PlainVBPR, "lightgcn": PlainLightGCN}


class PlainTrainer:
    """Adam over shuffled batches, negatives drawn row by row."""

    def __init__(self, model: PlainModel, data: Dataset, batch_size: int = 2048, lr: float = 1e-3, seed: int = 0):
        self.model, self.batch_size = model, batch_size
        self.table = pd.DataFrame({"user": data.train.users, "item": data.train.items})
        self.taken = {user: set(items.values) for user, items in self.table.groupby("user")["item"]}
        self.pool = self.table["item"].unique().tolist()
        self.random = random.Random(seed)
        self.seed = seed
        self.optimizer = torch.optim.Adam(model.parameters(), lr=lr)

    def negatives(self, users: pd.Series) -> Tensor:
        drawn = []
        for user in users:
            item = self.random.sample(self.pool, 1)[0]
            while item in self.taken[user]:
                item = self.random.sample(self.pool, 1)[0]
            drawn.append(item)
        return torch.tensor(drawn)

    def epoch(self) -> float:
        """Train on every interaction once; return the mean loss."""
        self.seed += 1
        table = self.table.sample(frac=1, random_state=self.seed).reset_index(drop=True)
        losses = []
        for start in range(0, len(table), self.batch_size):
            rows = table[start : start + self.batch_size]
            user, item = torch.tensor(rows["user"].values), torch.tensor(rows["item"].values)
            negative = self.negatives(rows["user"])
            self.optimizer.zero_grad()
            loss = self.model.loss(user, item, negative)
            loss.backward()
            self.optimizer.step()
            losses.append(loss.item())
        return float(np.mean(losses))


class PlainEvaluator:
    """Full ranking with the train items masked, prepared once, as a data loader would."""

    def __init__(self, data: Dataset, split: str, batch_users: int = 4096):
        judged = pd.DataFrame({"user": data.split(split).users, "item": data.split(split).items})
        train = pd.DataFrame({"user": data.train.users, "item": data.train.items})
        self.users = judged["user"].unique()
        by_user, seen = judged.groupby("user")["item"], train.groupby("user")["item"]
        self.relevant = [by_user.get_group(user).values for user in self.users]
        self.seen = [seen.get_group(user).values for user in self.users]
        self.batch_users = batch_users

    @torch.no_grad()
    def evaluate(self, model: PlainModel) -> dict[str, float]:
        """Return recall, ndcg, precision and map at every cut-off."""
        lists = []
        for start in range(0, len(self.users), self.batch_users):
            scores = model.predict(torch.from_numpy(self.users[start : start + self.batch_users]))
            seen = self.seen[start : start + self.batch_users]
            rows = np.repeat(np.arange(len(seen)), [len(s) for s in seen])
            scores[torch.from_numpy(rows), torch.from_numpy(np.concatenate(seen))] = -1e10
            lists.append(torch.topk(scores, max(KS), dim=-1).indices)
        hits = []
        for relevant, items in zip(self.relevant, torch.cat(lists).numpy(), strict=True):
            hits.append([item in relevant for item in items])
        return self.metrics(np.asarray(hits), np.array([len(r) for r in self.relevant]))

    @staticmethod
    def metrics(hits: np.ndarray, n_relevant: np.ndarray) -> dict[str, float]:
        ranks = np.arange(1, hits.shape[1] + 1)
        discount = 1 / np.log2(ranks + 1)
        found = np.cumsum(hits, 1)
        ideal = np.cumsum(discount)[np.minimum(n_relevant[:, None], ranks[None]) - 1]
        tables = {
            "recall": found / n_relevant[:, None],
            "ndcg": np.cumsum(hits * discount, 1) / ideal,
            "precision": found / ranks,
            "map": np.cumsum(hits * found / ranks, 1) / np.minimum(n_relevant[:, None], ranks[None]),
        }
        return {f"{name}@{k}": float(table[:, k - 1].mean()) for name, table in tables.items() for k in KS}
