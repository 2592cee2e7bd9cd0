"""The TorchRec ranker: bags, forward pass, training, resuming."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch

from recdistill import training
from recdistill.rankers import train as room
from recdistill.rankers.config import DlrmConfig
from recdistill.rankers.model import Ranker, SparseFeature, gather_bags
from recdistill.rankers.train import Inputs, score, train_ranker

ITEMS = 30
CONFIG = DlrmConfig(
    width=4,
    dense_layers=(8,),
    over_layers=(8,),
    batch_size=64,
    epochs=8,
    learning_rate=0.01,
    embedding_learning_rate=0.05,
)


def _features() -> list[SparseFeature]:
    tags = SparseFeature("tags", 3, torch.tensor([0, 2, 2, 3]), torch.tensor([0, 2, 1]))
    return [SparseFeature.single("item_id", torch.arange(ITEMS) - 1, size=ITEMS - 1), tags]


def _inputs(n: int = 600, *, seed: int = 0) -> tuple[Inputs, np.ndarray, np.ndarray]:
    generator = torch.Generator().manual_seed(seed)
    dense = torch.randn(n, 3, generator=generator)
    items, tags = (torch.randint(high, (n,), generator=generator) for high in (ITEMS, 3))
    chance = torch.sigmoid(2 * dense[:, 0] + (items % 2) - (tags == 0).float())
    label = (torch.rand(n, generator=generator) < chance).numpy()
    return Inputs(dense, (items, tags)), label, np.arange(n, dtype=np.int64)


def _train(
    tmp_path: Path,
    *,
    seed: int = 0,
    inputs: tuple[Inputs, np.ndarray, np.ndarray] | None = None,
    log: training.LogFn = lambda metrics, step: None,
) -> tuple[Ranker, training.Fitted]:
    rows, label, time = inputs or _inputs()
    return train_ranker(
        CONFIG,
        _features(),
        rows,
        label=label,
        time=time,
        checkpoint=tmp_path / "ranker",
        key="k",
        description="test",
        seed=seed,
        log=log,
    )


def test_gather_bags_by_hand() -> None:
    kjt = gather_bags(_features(), (torch.tensor([0, 3, 1]), torch.tensor([2, 0, 1])))
    assert kjt.keys() == ["item_id", "tags"]
    assert kjt["item_id"].lengths().tolist() == [0, 1, 1]
    assert kjt["item_id"].values().tolist() == [2, 0]
    assert kjt["tags"].lengths().tolist() == [1, 2, 0]
    assert kjt["tags"].values().tolist() == [1, 0, 2]


def test_interaction_uses_the_tables() -> None:
    ranker = Ranker(
        sizes={"item_id": ITEMS - 1, "tags": 3},
        dense=3,
        width=4,
        dense_layers=(8,),
        over_layers=(8,),
        embedding_learning_rate=0.1,
    )
    dense = torch.randn(2, 3)
    with torch.no_grad():
        for weight in ranker.tables.parameters():
            weight.fill_(1.0)
        one = ranker(dense, gather_bags(_features(), (torch.tensor([1, 1]), torch.tensor([0, 0]))))
        same = ranker(dense, gather_bags(_features(), (torch.tensor([5, 9]), torch.tensor([2, 2]))))
        absent = ranker(dense, gather_bags(_features(), (torch.tensor([0, 0]), torch.tensor([1, 1]))))
    assert one.shape == (2,)
    torch.testing.assert_close(one, same)
    assert not torch.allclose(one, absent)


def test_training_learns_dense_and_sparse_signal(tmp_path: Path) -> None:
    ranker, fitted = _train(tmp_path)
    inputs, label, _ = _inputs(400, seed=9)
    logits = torch.from_numpy(score(ranker, _features(), inputs))
    loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, torch.from_numpy(label).double())
    assert loss < 0.58 < 0.69
    odd = inputs.bags[0].numpy() % 2 == 1
    assert logits.numpy()[odd].mean() - logits.numpy()[~odd].mean() > 0.2
    assert fitted.best_score == max(value for _, value in fitted.curve)
    assert not (tmp_path / "ranker").exists()


def test_scores_do_not_depend_on_the_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ranker, _ = _train(tmp_path)
    inputs, _, _ = _inputs(100, seed=3)
    whole = score(ranker, _features(), inputs)
    monkeypatch.setattr(room, "_SCORE_BATCH", 7)
    np.testing.assert_allclose(score(ranker, _features(), inputs), whole, atol=1e-6)


def test_only_older_rows_train_and_the_newest_choose_the_epoch(tmp_path: Path) -> None:
    inputs, label, time = _inputs()
    flipped = label.copy()
    flipped[480:] = ~flipped[480:]
    first, _ = _train(tmp_path, inputs=(inputs, label, time))
    _, misled = _train(tmp_path, inputs=(inputs, flipped, time))
    # With the newest labels turned round, every epoch of training looks worse than the last one did.
    assert misled.best_step == min(step for step, _ in misled.curve)
    assert first.layers()[0].isfinite().all()


def test_a_killed_training_resumes_to_the_same_scores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inputs, _, _ = _inputs(50, seed=2)
    plain = score(_train(tmp_path)[0], _features(), inputs)

    class Killed(Exception):
        pass

    def dying(state: Mapping[str, float], step: int) -> None:
        if step >= 20:
            raise Killed

    every_step = training.fit

    def fit(*args: object, **options: object) -> training.Fitted:
        return every_step(*args, **{**options, "checkpoint_seconds": 0.0, "log_every": 1})  # type: ignore[arg-type]

    monkeypatch.setattr(room, "fit", fit)
    with pytest.raises(Killed):
        _train(tmp_path, log=dying)
    assert (tmp_path / "ranker").exists()
    resumed, _ = _train(tmp_path)
    np.testing.assert_allclose(score(resumed, _features(), inputs), plain, atol=1e-6)
