"""The plain baseline of BM3, FREEDOM, LATTICE and AlignRec: each step computed the way public research code commonly does it.

Written for this comparison, to stand beside the package in one run. Beyond the habits of ``plain.py`` it keeps these:

- feature tables are parameters: Adam steps through all of them at every batch;
- every batch projects the content of the whole catalogue, and predicts and drops out whole tables (BM3);
- LATTICE builds its item graphs as dense I x I matrices, anew each epoch with gradient, and multiplies with one at every batch;
- AlignRec compares whole batches, with their duplicates.
"""

from __future__ import annotations

import numpy as np
import torch
from plain import PlainLightGCN, PlainTrainer
from torch import Tensor, nn
from torch.nn import functional as F

from mmrec_teach.data import Dataset

K = 10


def coo(rows: np.ndarray, columns: np.ndarray, values: np.ndarray, side: int) -> Tensor:
    index = torch.from_numpy(np.stack([rows, columns]))
    return torch.sparse_coo_tensor(index, torch.from_numpy(values).float(), (side, side))


class PlainContent(PlainLightGCN):
    """LightGCN's tables, and one trained feature table and Linear per modality."""

    needs_negatives = True

    def __init__(self, data: Dataset, dim: int, n_layers: int = 2):
        super().__init__(data, dim, n_layers)
        self.tables = nn.ParameterList(nn.Parameter(torch.tensor(data.features[m])) for m in data.modalities)
        self.projections = nn.ModuleList(nn.Linear(table.shape[1], dim) for table in self.tables)

    def begin_epoch(self) -> None:
        """Nothing to prepare."""

    def content(self) -> list[Tensor]:
        return [project(table) for project, table in zip(self.projections, self.tables, strict=True)]


class PlainBM3(PlainContent):
    """Trained tables, everything computed for all users and items, a norm of whole tables."""

    needs_negatives = False

    def __init__(self, data: Dataset, dim: int):
        super().__init__(data, dim, n_layers=1)
        self.predictor = nn.Linear(dim, dim)

    def forward(self) -> tuple[Tensor, Tensor]:
        users, items = super().forward()
        return users, items + self.items

    def loss(self, user: Tensor, item: Tensor, negative: Tensor | None) -> Tensor:
        users, items = self.forward()
        contents = self.content()
        with torch.no_grad():
            target_users, target_items = (F.dropout(t.clone(), 0.5) for t in (users, items))
            target_contents = [F.dropout(t.clone(), 0.5) for t in contents]
        predicted_users, predicted_items = self.predictor(users)[user], self.predictor(items)[item]
        target_users, target_items = target_users[user], target_items[item]
        total = 2 - F.cosine_similarity(predicted_users, target_items).mean()
        total = total - F.cosine_similarity(predicted_items, target_users).mean()
        for table, target in zip(contents, target_contents, strict=True):
            predicted = self.predictor(table)[item]
            total = total + 2 * (1 - F.cosine_similarity(predicted, target_items).mean())
            total = total + 2 * (1 - F.cosine_similarity(predicted, target[item]).mean())
        return total + 0.1 * (users.norm() + items.norm()) / len(items)


class PlainFREEDOM(PlainContent):
    """A frozen item graph, found from a dense similarity once; edges drawn each epoch."""

    def __init__(self, data: Dataset, dim: int):
        super().__init__(data, dim)
        self.data = data
        parts = []
        for weight, table in zip((0.1, 0.9), self.tables, strict=True):
            unit = F.normalize(table.detach(), dim=1)
            near = torch.topk(unit @ unit.T, K, dim=-1).indices.numpy()
            rows = np.repeat(np.arange(data.n_items), K)
            parts.append(weight * coo(rows, near.reshape(-1), np.full(len(rows), 1 / K), data.n_items))
        self.similar = sum(parts[1:], parts[0]).coalesce()

    def begin_epoch(self) -> None:
        users, items = self.data.train.users, self.data.train.items
        degree = np.bincount(users, minlength=self.n_users)[users] * np.bincount(items, minlength=self.n_items)[items]
        drawn = torch.multinomial(torch.from_numpy(degree**-0.5), int(len(users) * 0.2)).numpy()
        users, items = users[drawn], items[drawn]
        user_degree, item_degree = np.bincount(users, minlength=self.n_users), np.bincount(items, minlength=self.n_items)
        values = (user_degree[users] * item_degree[items] + 1e-7) ** -0.5
        rows, columns = np.concatenate([users, items + self.n_users]), np.concatenate([items + self.n_users, users])
        self.adjacency = coo(rows, columns, np.concatenate([values, values]), self.n_users + self.n_items)

    def forward(self) -> tuple[Tensor, Tensor]:
        users, items = super().forward()
        return users, items + torch.sparse.mm(self.similar, self.items)

    def loss(self, user: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
        users, items = self.forward()
        u = users[user]
        total = -F.logsigmoid((u * items[positive]).sum(1) - (u * items[negative]).sum(1)).mean()
        for table in self.content():
            total = total - 1e-3 * F.logsigmoid((u * table[positive]).sum(1) - (u * table[negative]).sum(1)).mean()
        return total


def dense_knn(x: Tensor) -> Tensor:
    unit = x / x.norm(dim=-1, keepdim=True)
    values, near = torch.topk(unit @ unit.T, K, dim=-1)
    return torch.zeros(len(x), len(x)).scatter(-1, near, values)


def dense_normalised(adjacency: Tensor) -> Tensor:
    scale = torch.diagflat(adjacency.sum(-1).clamp_min(1e-12).pow(-0.5))
    return torch.mm(torch.mm(scale, adjacency), scale)


class PlainLATTICE(PlainContent):
    """Dense item graphs."""

    def __init__(self, data: Dataset, dim: int):
        super().__init__(data, dim)
        self.weights = nn.Parameter(torch.full((len(self.tables),), 0.5))
        self.originals = [dense_normalised(dense_knn(table.detach())) for table in self.tables]
        self.due = True

    def begin_epoch(self) -> None:
        self.due = True

    def item_graph(self) -> Tensor:
        weights = self.weights.softmax(0)
        learned = sum(w * dense_knn(content) for w, content in zip(weights, self.content(), strict=True))
        original = sum(w * graph for w, graph in zip(weights, self.originals, strict=True))
        return 0.1 * dense_normalised(learned) + 0.9 * original

    def loss(self, user: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
        self.graph, self.due = self.item_graph() if self.due else self.graph.detach(), False
        users, items = self.forward()
        items = items + F.normalize(torch.mm(self.graph, self.items), dim=1)
        u, i, j = users[user], items[positive], items[negative]
        penalty = (u.square().sum() + i.square().sum() + j.square().sum()) / (2 * len(u))
        return -F.logsigmoid((u * i).sum(1) - (u * j).sum(1)).mean() + 1e-3 * penalty


class PlainAlignRec(PlainContent):
    """A trained table of fused vectors, COO products, cosines of the batch as it comes."""

    def __init__(self, data: Dataset, dim: int):
        super().__init__(data, dim)
        self.gate = nn.Linear(dim, dim)
        unit = F.normalize(self.tables[0].detach(), dim=1)
        values, near = torch.topk(unit @ unit.T, K, dim=-1)
        scale = values.sum(1).pow(-0.5).numpy()
        rows, columns = np.repeat(np.arange(data.n_items), K), near.reshape(-1).numpy()
        self.similar = coo(rows, columns, scale[rows] * values.reshape(-1).numpy() * scale[columns], data.n_items).coalesce()
        users, items = data.train.users, data.train.items
        degrees = np.bincount(users, minlength=data.n_users)[users] * np.bincount(items, minlength=data.n_items)[items]
        index = torch.from_numpy(np.stack([users, items]))
        shape = data.n_users, data.n_items
        self.history = torch.sparse_coo_tensor(index, torch.from_numpy(degrees**-0.5).float(), shape).coalesce()

    def info_nce(self, content: Tensor, own: Tensor) -> Tensor:
        content, own = F.normalize(content, dim=-1), F.normalize(own, dim=-1)
        positive = torch.exp((content * own).sum(-1) / 0.2)
        return -torch.log(positive / torch.exp(content @ own.T / 0.2).sum(1)).mean()

    def loss(self, user: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
        users, items = super().forward()
        gated = self.items * torch.sigmoid(self.gate(self.projections[0](self.tables[0])))
        content_items = torch.sparse.mm(self.similar, gated)
        content_users = torch.sparse.mm(self.history, content_items)
        all_users, all_items = content_users + users, content_items + items
        u, i, j = all_users[user], all_items[positive], all_items[negative]
        total = -F.logsigmoid((u * i).sum(1) - (u * j).sum(1)).mean()
        cca = self.info_nce(content_items[positive], items[positive]) + self.info_nce(content_users[user], users[user])
        uia = 1 - F.cosine_similarity(u, i).mean()
        raw, content = F.normalize(self.tables[0][positive].detach(), dim=-1), content_items[positive]
        reg = torch.norm(content @ content.T - raw @ raw.T) / len(user)
        penalty = (u.square().sum() + i.square().sum() + j.square().sum()) / (2 * len(u))
        return total + 0.01 * cca + 0.1 * uia + 0.1 * reg + 1e-4 * penalty


MODELS = {"alignrec": PlainAlignRec, "bm3": PlainBM3, "freedom": PlainFREEDOM, "lattice": PlainLATTICE}


class PlainContentTrainer(PlainTrainer):
    """Calls what a model prepares each epoch; draws no negatives for a model that wants none."""

    def negatives(self, users):
        return super().negatives(users) if self.model.needs_negatives else None

    def epoch(self) -> float:
        self.model.begin_epoch()
        return super().epoch()
