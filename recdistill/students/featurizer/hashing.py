"""Bags of hashed terms → TF-IDF → truncated SVD, saved as a table of 2^k rows; centred, of mean norm 1.

Shapes: n items, 2^k buckets, r width.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np
import torch
from scipy import sparse
from torch import Tensor, nn

from recdistill.students.featurizer.scaling import unit_scale
from recdistill.students.featurizer.terms import bucket


class HashedBag(nn.Module):
    """Fitted tables of a TF-IDF-SVD. An item none of whose terms weighs anything is the zero vector."""

    idf: Tensor
    components: Tensor
    mean: Tensor
    scale: Tensor

    def __init__(self, *, buckets_log2: int, width: int) -> None:
        super().__init__()
        self.buckets_log2, self.width = buckets_log2, width
        self.register_buffer("idf", torch.zeros(1 << buckets_log2))
        self.register_buffer("components", torch.zeros(1 << buckets_log2, width))
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("scale", torch.ones(()))

    @classmethod
    def fit(cls, bags: Sequence[Sequence[str]], *, buckets_log2: int, width: int) -> HashedBag | None:
        """Fit on the bags of a catalogue; None if no term occurs in two of them.

        A term's weight is (1 + ln count) · ln((1 + n) / (1 + document frequency)), 0 if it occurs in one item only:
        it says nothing of likeness. Rows are L2-normalised before the SVD.
        """
        counts = _counts(bags, buckets_log2)
        occurs = np.bincount(counts.indices, minlength=1 << buckets_log2)
        idf = np.where(occurs >= 2, np.log((1 + len(bags)) / (1 + np.maximum(occurs, 1))), 0.0)
        weighted = _weighted(counts, idf)
        used = np.flatnonzero(idf > 0)  # most buckets are empty, and would cost as much
        rank = min(width, len(used), int((np.diff(weighted.indptr) > 0).sum()))
        if rank < 1:
            return None
        from sklearn.decomposition import TruncatedSVD  # here, since a student that serves fits nothing

        svd = TruncatedSVD(rank, n_iter=4, random_state=0).fit(weighted[:, used])
        fitted = cls(buckets_log2=buckets_log2, width=rank)
        fitted.idf.copy_(torch.from_numpy(idf))
        fitted.components[torch.from_numpy(used)] = torch.from_numpy(svd.components_.T.astype(np.float32))
        vectors = torch.from_numpy(weighted @ fitted.components.numpy())
        present = torch.from_numpy(np.diff(weighted.indptr) > 0)
        fitted.mean.copy_(vectors[present].double().mean(0))
        fitted.scale.copy_(unit_scale(vectors[present] - fitted.mean))
        return fitted

    def forward(self, bags: Sequence[Sequence[str]]) -> Tensor:
        """[n, r] float32."""
        weighted = _weighted(_counts(bags, self.buckets_log2), self.idf.cpu().numpy())
        vectors = torch.from_numpy(weighted @ self.components.cpu().numpy()).to(self.mean.device)
        present = torch.from_numpy(np.diff(weighted.indptr) > 0).to(self.mean.device)
        return torch.where(present[:, None], (vectors - self.mean) * self.scale, 0.0)


def _counts(bags: Sequence[Sequence[str]], log2: int) -> sparse.csr_array:
    indices: list[int] = []
    data: list[float] = []
    ends = [0]
    for bag in bags:
        counted = Counter(bucket(term, log2) for term in bag)
        indices += sorted(counted)
        data += [1.0 + math.log(counted[b]) for b in indices[ends[-1] :]]
        ends.append(len(indices))
    return sparse.csr_array(
        (np.array(data, np.float32), np.array(indices, np.int32), np.array(ends, np.int64)),
        shape=(len(bags), 1 << log2),
    )


def _weighted(counts: sparse.csr_array, idf: np.ndarray) -> sparse.csr_array:
    """Rows times idf, L2-normalised, without zeros."""
    data = counts.data * idf[counts.indices].astype(np.float32)
    owner = np.repeat(np.arange(counts.shape[0]), np.diff(counts.indptr))
    norm = np.sqrt(np.bincount(owner, weights=data.astype(np.float64) ** 2, minlength=counts.shape[0]))
    data = (data / np.maximum(norm[owner], 1e-12)).astype(np.float32)
    weighted = sparse.csr_array((data, counts.indices, counts.indptr), shape=counts.shape)
    weighted.eliminate_zeros()
    return weighted
