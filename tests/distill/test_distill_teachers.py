"""Teacher tables as targets: unit and finite, and trusted by their confidence."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch

from recdistill.contracts.tables import EmbeddingTable, write_table
from recdistill.distill.teachers import load_targets
from recdistill.errors import UserError

IDS = pd.Index(["a", "b", "c", "new"])


def test_targets_are_unit_centred_by_confidence_and_zero_where_unknown(tmp_path):
    vectors = np.array([[1, 0], [0, 1], [-1, 0]], np.float32)
    confidence = np.array([1, 1, 0], np.float32)
    EmbeddingTable(IDS[:3], vectors, None, confidence).write(tmp_path / "t.parquet")
    (target,) = load_targets(tmp_path, ("t",), IDS)
    half = 0.5**0.5
    assert torch.allclose(target.vectors[:2], torch.tensor([[half, -half], [-half, half]]), atol=1e-5)
    assert target.vectors[3].tolist() == [0, 0] and target.confidence.tolist() == [1, 1, 0, 0]


def test_a_null_confidence_is_refused_and_does_not_spoil_every_vector(tmp_path):
    columns = {"item_id": ["a", "b"], "embedding": [[1.0, 0.0], [0.0, 1.0]], "confidence": [1.0, None]}
    write_table(pa.table(columns), tmp_path / "t.parquet")
    with pytest.raises(UserError, match=r"'confidence' .*1 of 2 rows.*'b'"):
        load_targets(tmp_path, ("t",), IDS)
