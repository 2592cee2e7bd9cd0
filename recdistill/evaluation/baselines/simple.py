"""Baselines that learn nothing, or only count."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from recdistill.evaluation.baselines.material import Material
from recdistill.evaluation.subjects import ScoreSubject, VectorSubject


def popularity(material: Material) -> ScoreSubject:
    """Items by the number of users who were positive about them in training, whatever is asked."""
    support = torch.from_numpy(material.support.astype(np.float32))

    def score(query: Tensor) -> Tensor:
        return support.repeat(len(query), 1)

    return ScoreSubject("popularity", score, material.known)


def raw_content(material: Material) -> VectorSubject:
    """Content features as they come, centred."""
    return VectorSubject("raw_content", material.content, material.content_present)
