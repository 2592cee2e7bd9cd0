"""The rankers: bags, forward passes, training, resuming, and what each alone can see."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.special import expit
from sklearn.metrics import log_loss, roc_auc_score

from recdistill import training
from recdistill.contracts.log import Log
from recdistill.errors import UserError
from recdistill.rankers.config import DcnConfig, DinConfig, DlrmConfig, NetworkConfig, RankConfig, TreesConfig
from recdistill.rankers.inputs import How, Inputs, SparseFeature, Task, by_age, gather_bags, last_items
from recdistill.rankers.models import network as room
from recdistill.rankers.models import train_model
from recdistill.rankers.models.din import ActivationUnit, Din
from recdistill.rankers.models.dlrm import Dlrm
from recdistill.rankers.models.network import fit_network, score, standardised
from recdistill.rankers.models.trees import columns
from recdistill.rankers.names import ModelName
from recdistill.rankers.rows import Rows

ITEMS = 30
ROWS = 600
SMALL = {
    "width": 4, "dense_layers": (8,), "over_layers": (8,), "batch_size": 64, "epochs": 8, "learning_rate": 0.01,
    "embedding_learning_rate": 0.05,
}  # fmt: skip
DLRM = DlrmConfig.model_validate(SMALL)
SHORT = DLRM.model_copy(update={"epochs": 2})
CONFIG = RankConfig(
    dlrm=DLRM,
    dcn=DcnConfig.model_validate({**SMALL, "cross_rank": 4}),
    din=DinConfig.model_validate({**SMALL, "last": 6, "attention_layers": (8,)}),
    trees=TreesConfig(trees=60, min_rows=10, learning_rate=0.1),
)
MODELS: tuple[ModelName, ...] = ("dlrm", "dcn", "din", "trees")


def _features() -> tuple[SparseFeature, ...]:
    tags = SparseFeature("tags", 3, torch.tensor([0, 2, 2, 3]), torch.tensor([0, 2, 1]), kind="tags")
    return SparseFeature.single("item_id", torch.arange(ITEMS) - 1, size=ITEMS - 1, kind="item"), tags


def _inputs(rows: int, *, seed: int) -> tuple[Inputs, np.ndarray]:
    generator = torch.Generator().manual_seed(seed)
    dense = torch.randn(rows, 3, generator=generator)
    items, tags = (torch.randint(high, (rows,), generator=generator) for high in (ITEMS, 3))
    history = torch.randint(-1, ITEMS, (rows, 6), generator=generator, dtype=torch.int32)
    chance = torch.sigmoid(2 * dense[:, 0] + (items % 2) - (tags == 0).float())
    label = (torch.rand(rows, generator=generator) < chance).numpy()
    return Inputs(dense, (items, tags), items, history), label


def _task() -> Task:
    (train, label), (test, _) = _inputs(ROWS, seed=0), _inputs(400, seed=9)
    older, newest = by_age(np.arange(ROWS), newest=0.2)
    vectors = np.random.default_rng(0).normal(size=(ITEMS, 2)).astype(np.float32)
    vectors[3] = np.nan
    return Task(_features(), (1, 1, 1), vectors, train, test, label, older, newest)


def _how(folder: Path, *, log: training.LogFn = lambda metrics, step: None) -> How:
    return How(folder / "ranker", "k", "test", 0, log)


def _fit(
    folder: Path, task: Task, config: NetworkConfig = DLRM, *, log: training.LogFn = lambda metrics, step: None
) -> tuple[room.Network, training.Fitted]:
    return fit_network(
        config, lambda features, dense: Dlrm(features, dense, DLRM), standardised(task), _how(folder, log=log)
    )


def test_gather_bags_by_hand() -> None:
    kjt = gather_bags(_features(), (torch.tensor([0, 3, 1]), torch.tensor([2, 0, 1])))
    assert kjt.keys() == ["item_id", "tags"]
    assert kjt["item_id"].lengths().tolist() == [0, 1, 1]
    assert kjt["item_id"].values().tolist() == [2, 0]
    assert kjt["tags"].lengths().tolist() == [1, 2, 0]
    assert kjt["tags"].values().tolist() == [1, 0, 2]


def test_older_and_newest_rows_part_between_moments() -> None:
    older, newest = by_age(np.array([5, 1, 5, 2, 3, 4, 5]), newest=0.2)
    assert older.tolist() == [1, 3, 4, 5]
    assert newest.tolist() == [0, 2, 6]
    older, newest = by_age(np.full(10, 7), newest=0.2)
    assert len(older) == 8


def test_history_is_what_pleased_strictly_before() -> None:
    user, item, time = np.array([0, 0, 0, 0, 1]), np.array([4, 2, 3, 1, 2]), np.array([10, 20, 30, 40, 5])
    behaviours = np.array([1, 0, 1, 1, 1], dtype=np.int32)
    value = np.full(5, np.nan, dtype=np.float32)
    log = Log(pd.Index(["a", "b"]), pd.Index(list("vwxyz")), user, item, time, behaviours, ("like",), value)
    asked = np.array([0, 0, 0, 1])
    none = np.zeros(4, dtype=bool)
    rows = Rows(asked, asked, np.array([10, 40, 41, 6]), none, asked, none)
    assert last_items(log, rows, last=2, min_behaviours=1).tolist() == [[-1, -1], [4, 3], [3, 1], [-1, 2]]
    assert last_items(log, rows, last=0, min_behaviours=1).shape == (4, 0)


def _logits(network: room.Network, item: list[int], tag: list[int]) -> torch.Tensor:
    items = torch.tensor(item)
    dense, none = torch.zeros(len(item), 3), torch.full((len(item), 6), -1, dtype=torch.int32)
    with torch.no_grad():
        return network(Inputs(dense, (items, torch.tensor(tag)), items, none))


def test_interaction_uses_the_tables() -> None:
    network = Dlrm(_features(), 3, DLRM)
    with torch.no_grad():
        for table in network.tables().values():
            for weight in table.parameters():
                weight.fill_(1.0)
    one, same, absent = (_logits(network, *asked) for asked in (([1, 1], [0, 0]), ([5, 9], [2, 2]), ([0, 0], [1, 1])))
    assert one.shape == (2,)
    torch.testing.assert_close(one, same)
    assert not torch.allclose(one, absent)


@pytest.mark.parametrize("model", MODELS)
def test_training_learns_dense_and_sparse_signal(tmp_path: Path, model: ModelName) -> None:
    curve: list[str] = []
    task = _task()
    scored = train_model(model, CONFIG, task, _how(tmp_path, log=lambda metrics, step: curve.extend(metrics)))
    label = _inputs(400, seed=9)[1]
    assert log_loss(label, expit(scored.test)) < 0.59
    assert len(scored.newest) == len(task.newest)
    assert roc_auc_score(task.label[task.newest], scored.newest) > 0.7
    assert {"loss", "validation"} <= set(curve)
    if model != "trees":  # they have no item ids: only a table by id knows odd items
        odd = task.test.bags[0].numpy() % 2 == 1
        assert scored.test[odd].mean() - scored.test[~odd].mean() > 0.2
    assert not (tmp_path / "ranker").exists()


@pytest.mark.parametrize("model", MODELS)
def test_same_seed_same_scores(tmp_path: Path, model: ModelName) -> None:
    short = CONFIG.model_copy(update={"dlrm": SHORT, "dcn": CONFIG.dcn.model_copy(update={"epochs": 2})})
    short = short.model_copy(update={"din": CONFIG.din.model_copy(update={"epochs": 2})})
    one, two = (train_model(model, short, _task(), _how(tmp_path)).test for _ in range(2))
    np.testing.assert_array_equal(one, two)


def _product_task() -> tuple[Task, np.ndarray]:
    """The label is whether two random signs agree: no sum of one-column effects tells."""
    rng = np.random.default_rng(4)
    sign = rng.choice([-1.0, 1.0], size=(1400, 2)).astype(np.float32)
    label = (sign.prod(axis=1) > 0) == (rng.random(1400) < 0.9)
    items = torch.zeros(1400, dtype=torch.int64)
    every = Inputs(torch.from_numpy(sign), (items, items), items, torch.full((1400, 6), -1, dtype=torch.int32))
    train, test = (every.take(rows) for rows in torch.arange(1400).split(1000))
    older, newest = by_age(np.arange(1000), newest=0.2)
    no_vectors = np.zeros((ITEMS, 0), dtype=np.float32)
    return Task(_features(), (1, 1), no_vectors, train, test, label[:1000], older, newest), label[1000:]


@pytest.mark.parametrize("model", MODELS)
def test_every_model_finds_what_two_columns_say_together(tmp_path: Path, model: ModelName) -> None:
    task, label = _product_task()
    long = CONFIG.model_copy(
        update={
            name: getattr(CONFIG, name).model_copy(update={"epochs": 10, "patience": 0, "learning_rate": 0.03})
            for name in ("dlrm", "dcn", "din")
        }
    )
    assert roc_auc_score(label, train_model(model, long, task, _how(tmp_path)).test) > 0.8


def test_only_din_sees_whom_the_history_resembles(tmp_path: Path) -> None:
    """The label says whether any history item's vector points where the candidate's does."""
    rng = np.random.default_rng(1)
    vectors = rng.choice([-1.0, 1.0], size=(ITEMS, 1)).astype(np.float32)
    item, past = rng.integers(ITEMS, size=1600), rng.integers(ITEMS, size=(1600, 6)).astype(np.int32)
    past[:, :4] = -1
    agreement = (vectors[past[:, 4:], 0] * vectors[item]).mean(axis=1)
    label = rng.random(1600) < expit(4 * agreement)
    asked = torch.from_numpy(item)
    every = Inputs(torch.zeros(1600, 1), (asked, torch.zeros_like(asked)), asked, torch.from_numpy(past))
    train, test = (every.take(rows) for rows in torch.arange(1600).split(1200))
    older, newest = by_age(np.arange(1200), newest=0.2)
    task = Task(_features(), (1,), vectors, train, test, label[:1200], older, newest)
    longer = CONFIG.din.model_copy(update={"epochs": 12, "patience": 0, "learning_rate": 0.02})
    seen = {
        model: roc_auc_score(
            label[1200:], train_model(model, CONFIG.model_copy(update={"din": longer}), task, _how(tmp_path)).test
        )
        for model in ("din", "dlrm")
    }
    assert seen["din"] > 0.8
    assert seen["dlrm"] < 0.6


def test_attention_by_hand_and_what_is_absent_counts_nothing() -> None:
    """With a unit that gives the sum of the products, the interest is Σ (c · h) h / H over what is present."""
    unit = ActivationUnit(2, ())
    last = unit.layers[-1]
    assert isinstance(last, torch.nn.Linear)
    with torch.no_grad():
        last.weight.copy_(torch.tensor([[0.0, 0, 0, 0, 0, 0, 1, 1]]))
        last.bias.zero_()
    candidate = torch.tensor([[1.0, 2.0]])
    history = torch.tensor([[[1.0, 0.0], [0.0, 3.0], [7.0, 7.0]]])
    interest = unit(candidate, history, torch.tensor([[True, True, False]]))
    torch.testing.assert_close(interest, torch.tensor([[1.0, 18.0]]) / 3)


def test_din_does_not_see_behind_the_padding_or_the_order_of_history() -> None:
    torch.manual_seed(0)
    network = Din(_features(), 3, torch.randn(ITEMS, 2), CONFIG.din)
    inputs, _ = _inputs(20, seed=1)
    with torch.no_grad():
        plain = network(inputs)
        turned = network(replace(inputs, history=inputs.history.flip(1)))
        other = network(replace(inputs, history=torch.where(inputs.history < 0, -1, 5).int()))
    torch.testing.assert_close(plain, turned)
    assert not torch.allclose(plain, other)


def test_columns_of_trees_by_hand() -> None:
    code = SparseFeature.single("sid_0", torch.tensor([4, -1, 2]), size=5, kind="code")
    features = (*_features(), code)
    items = torch.tensor([2, 1, 0])
    dense = torch.tensor([[0.5], [torch.nan], [1.0]])
    inputs = Inputs(dense, (items, items, items), items, torch.zeros(3, 0, dtype=torch.int32))
    found = columns(features, inputs, tags=2)
    np.testing.assert_array_equal(found, [[0.5, 0, 1, 2], [np.nan, 0, 0, np.nan], [1.0, 1, 0, 4]])
    assert columns(features, inputs, tags=0).shape == (3, 2)


def test_trees_answer_with_the_number_that_was_best(tmp_path: Path) -> None:
    """Not with those that patience was waited through."""
    task = _task()
    losses: dict[int, float] = {}
    scored = train_model(
        "trees", CONFIG, task, _how(tmp_path, log=lambda metrics, step: losses.update({step: -metrics["validation"]}))
    )
    assert scored.best_step == min(losses, key=losses.__getitem__) < max(losses)
    assert log_loss(task.label[task.newest], expit(scored.newest)) == pytest.approx(losses[scored.best_step])


@pytest.mark.parametrize("label", [True, False])
def test_trees_refuse_older_rows_of_one_class(tmp_path: Path, label: bool) -> None:
    task = _task()
    one = task.label.copy()
    one[task.older] = label
    assert len(np.unique(one[task.newest])) == 2
    said = f"older 479 of 600 training rows, from which trees learn, are all {'positive' if label else 'negative'}"
    with pytest.raises(UserError, match=said) as caught:
        train_model("trees", CONFIG, replace(task, label=one), _how(tmp_path))
    assert "rank.validation" in caught.value.remedy


def test_scores_do_not_depend_on_the_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network, _ = _fit(tmp_path, _task())
    inputs, _ = _inputs(100, seed=3)
    whole = score(network, inputs)
    monkeypatch.setattr(room, "_SCORE_BATCH", 7)
    np.testing.assert_allclose(score(network, inputs), whole, atol=1e-6)


def test_only_older_rows_train_and_the_newest_choose_the_epoch(tmp_path: Path) -> None:
    task = _task()
    flipped = task.label.copy()
    flipped[task.newest] = ~flipped[task.newest]
    # With the newest labels turned round, every epoch of training looks worse than the last one did.
    network, misled = _fit(tmp_path, replace(task, label=flipped))
    assert misled.best_step == min(step for step, _ in misled.curve)
    assert all(weight.isfinite().all() for weight in network.layers())


@pytest.mark.parametrize(
    "build", [lambda f, d: Dlrm(f, d, DLRM), lambda f, d: Din(f, d, torch.randn(ITEMS, 2), CONFIG.din)]
)
def test_a_killed_training_resumes_to_the_same_scores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, build: Callable[..., room.Network]
) -> None:
    """Din has two collections of tables, each with an optimizer of its own."""
    task, (inputs, _) = standardised(_task()), _inputs(50, seed=2)

    def trained(log: training.LogFn = lambda metrics, step: None) -> room.Network:
        return fit_network(SHORT, build, task, _how(tmp_path, log=log))[0]

    plain = score(trained(), inputs)

    class Killed(Exception):
        pass

    def dying(state: Mapping[str, float], step: int) -> None:
        if step >= 10:
            raise Killed

    every_step = training.fit

    def fit(*args: object, **options: object) -> training.Fitted:
        return every_step(*args, **{**options, "checkpoint_seconds": 0.0, "log_every": 1})  # type: ignore[arg-type]

    monkeypatch.setattr(room, "fit", fit)
    with pytest.raises(Killed):
        trained(dying)
    assert (tmp_path / "ranker").exists()
    monkeypatch.undo()
    np.testing.assert_allclose(score(trained(), inputs), plain, atol=1e-6)
