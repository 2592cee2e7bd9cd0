"""Tags and numbers as tokens, one a tag field and one of all numbers, each in the columns of its own transformation.

Shapes: n items, T places, w the width of all transformations side by side.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from recdistill.students.content import Block
from recdistill.students.featurizer.direct import DirectTags
from recdistill.students.featurizer.hashing import HashedBag
from recdistill.students.featurizer.numbers import Numbers
from recdistill.students.featurizer.terms import tag_terms


def field_tokens(
    block: Block,
    *,
    tags: Sequence[str],
    hashed_fields: Sequence[str],
    direct: DirectTags | None,
    hashed: HashedBag | None,
    numbers: Numbers | None,
) -> Tensor:
    """[n, T, w]: the tag fields in the order of ``tags``, numbers behind; zero where the item lacks the field.

    The tokens' sum holds what the pooled vector holds, but that the hashed fields share their columns.
    """
    device = next(part for part in (direct, hashed, numbers) if part is not None).scale.device
    width = sum(part.width for part in (direct, hashed, numbers) if part is not None)
    tokens = torch.zeros(len(block), len(tags) + (numbers is not None), width, device=device)
    start = 0
    if direct is not None:
        values = direct(block.tags)
        for field, known in direct.values.items():
            mine = slice(start, start + len(known))
            tokens[:, tags.index(field), mine] = values[:, mine]
            start = mine.stop
    if hashed is not None:
        bags = [tag_terms(of_item, [field]) for field in hashed_fields for of_item in block.tags]
        by_field = hashed(bags).view(len(hashed_fields), len(block), hashed.width)
        places = [tags.index(field) for field in hashed_fields]
        tokens[:, places, start : start + hashed.width] = by_field.transpose(0, 1)
        start += hashed.width
    if numbers is not None:
        known_any = torch.from_numpy(np.isfinite(block.numbers).any(axis=1)).to(device)
        tokens[:, -1, start:] = torch.where(known_any[:, None], numbers(block.numbers), 0.0)
    return tokens
