"""The rivals on a planted world: content tells the teacher's vector, of known items and of new ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from pydantic import ValidationError
from torch import nn

from recdistill.contracts import names
from recdistill.contracts.log import Log
from recdistill.contracts.tables import EmbeddingTable, write_table
from recdistill.distill.batch import Draw, Encoded
from recdistill.distill.config import DistillConfig, Trial, Weights
from recdistill.distill.heads import MeanHead
from recdistill.distill.pairs import InterestPairs
from recdistill.distill.preferences import Preferences
from recdistill.distill.subjects import subjects
from recdistill.distill.terms import Given, build_terms
from recdistill.distill.terms.rival import Rival
from recdistill.training import step_generator

USERS, ITEMS, NEW, WIDTH = 40, 60, 12, 4
RIVALS = ("dropoutnet", "clcrec", "aldi")


def _none(name: str) -> Any:
    raise AssertionError("rivals read the table alone")


class World:
    """Items of four topics, the last twelve never met; users like one topic; content is the topic, rotated."""

    def __init__(self, folder: Path) -> None:
        rng = np.random.default_rng(0)
        self.topic = np.arange(ITEMS) % WIDTH
        self.truth = np.eye(WIDTH, dtype=np.float32)[self.topic]
        turned, _ = np.linalg.qr(rng.normal(size=(WIDTH, WIDTH)))
        noise = 0.1 * rng.normal(size=(ITEMS, WIDTH))
        self.content = torch.from_numpy((self.truth @ turned + noise).astype(np.float32))
        items = pd.Index([f"i{row:02d}" for row in range(ITEMS)])
        rows = []
        for user in range(USERS):
            mine = np.flatnonzero(self.topic[: ITEMS - NEW] == user % WIDTH)
            rows += [(user, item) for item in rng.choice(mine, 6, replace=False)]
        user, item = (np.array(column, np.int32) for column in zip(*rows, strict=True))
        ones = np.ones(len(rows), np.int32)
        time = np.arange(len(rows))
        users = pd.Index([f"u{row:02d}" for row in range(USERS)])
        self.log = Log(users, items, user, item, time, ones, ("like",), np.full(len(rows), np.nan, np.float32))
        pairs = [(u, np.delete(item[user == u], at), t) for u in range(USERS) for at, t in enumerate(item[user == u])]
        table = {
            names.USER_ID: pa.array([users[u] for u, _, _ in pairs]),
            names.QUERY_ITEMS: pa.array([items[query].tolist() for _, query, _ in pairs]),
            names.TARGET_ITEM: pa.array([items[target] for _, _, target in pairs]),
            names.PERSPECTIVE: pa.array(["x"] * len(pairs)),
            names.TIMESTAMP: pa.array([0] * len(pairs), pa.timestamp("us", "UTC")),
        }
        write_table(pa.table(table), folder / "pairs.parquet")
        self.pairs = InterestPairs(folder / "pairs.parquet", self.log, history_power=0)
        known = self.truth[: ITEMS - NEW] + 0.05 * rng.normal(size=(ITEMS - NEW, WIDTH)).astype(np.float32)
        self.teacher = EmbeddingTable(items[: ITEMS - NEW], known, metadata={"geometry": "cosine"})

    def term(self, name: str, temperature: float = 0.2) -> Rival:
        torch.manual_seed(0)
        trial = Trial(weights=Weights.only(**{name: 1.0}), temperature=temperature)
        given = Given(DistillConfig(), trial, self.log, self.pairs, (8,), _none, _none, lambda name: self.teacher)
        (term,) = build_terms(given).values()
        assert isinstance(term, Rival)
        return term

    def encoded(self, term: Rival, network: nn.Module, step: int) -> Encoded:
        generator = step_generator(0, step)
        torch.manual_seed(step)
        pairs = self.pairs.draw(32, generator)
        more = term.more(pairs, generator)
        rows = torch.cat([pairs.target, pairs.query[pairs.query >= 0], more]).unique()
        vectors = network(self.content[rows])
        draw = Draw(rows, pairs, more={term.name: more})
        return Encoded(
            draw,
            vectors,
            {},
            {},
            student=network,
            head=MeanHead(),
            prefixes=(8,),
            query_widths=(8,),  # type: ignore[arg-type]
        )


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("rivals"))


@pytest.mark.parametrize("name", RIVALS)
def test_new_items_come_to_stand_by_their_topic(world: World, name: str) -> None:
    term, network = world.term(name), nn.Linear(WIDTH, 8)
    optimizer = torch.optim.Adam([*term.parameters(), *network.parameters()], lr=0.02)

    def hits() -> float:
        """How often the nearest known items of a new one, by dot product from their side, are of its topic."""
        with torch.no_grad():
            vectors = term.eval().served(network(world.content))
        scores = vectors[: ITEMS - NEW] @ vectors[ITEMS - NEW :].T  # what known items, as queries, say of new ones
        best = scores.argmax(dim=1).numpy() + ITEMS - NEW
        return float((world.topic[best] == world.topic[: ITEMS - NEW]).mean())

    before = hits()
    first = last = 0.0
    for step in range(150):
        loss = term.train()(world.encoded(term, network, step))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        first, last = (loss.item() if step == 0 else first), loss.item()
    assert last < first
    assert before < 0.8
    assert hits() > 0.95


def test_what_is_served_of_known_items(world: World) -> None:
    """ALDI gives known items the teacher's vectors, CLCRec its trained ones; new ones come from content alone."""
    content = torch.randn(ITEMS, 8)
    unit = torch.nn.functional.normalize(torch.from_numpy(world.teacher.vectors), dim=1)
    aldi, clcrec, dropoutnet = (world.term(name) for name in ("aldi", "clcrec", "dropoutnet"))
    served = {term.name: term.served(content) for term in (aldi, clcrec, dropoutnet)}
    known = slice(0, ITEMS - NEW)
    torch.testing.assert_close(served["aldi"][known], unit / 0.2**0.5)  # dot products are cosines over temperature
    torch.testing.assert_close(served["clcrec"][known], unit)  # before any step
    for name, term in (("aldi", aldi), ("clcrec", clcrec)):
        torch.testing.assert_close(served[name][ITEMS - NEW :], term.projection(content[ITEMS - NEW :]))
    without = dropoutnet.network(torch.cat([content, torch.zeros(ITEMS, WIDTH)], dim=1))
    torch.testing.assert_close(served["dropoutnet"][ITEMS - NEW :], without[ITEMS - NEW :])
    assert (served["dropoutnet"][known] - without[known]).abs().max() > 0.01


def test_preferences_rank_as_the_teacher_does_and_count_users(world: World) -> None:
    vectors = np.array([[3.0, 4.0], [0.0, 2.0]], np.float32)
    cosine = Preferences.of(
        EmbeddingTable(world.log.item_ids[[5, 0]], vectors, metadata={"geometry": "cosine"}), world.log
    )
    assert cosine.vectors[5].tolist() == pytest.approx([0.6, 0.8])
    assert cosine.rows.tolist() == [0, 5]
    dot = Preferences.of(EmbeddingTable(world.log.item_ids[[5, 0]], vectors, metadata={"geometry": "dot"}), world.log)
    torch.testing.assert_close(dot.vectors[5] / dot.vectors[0].norm(), torch.tensor([1.5, 2.0]))
    assert (dot.vectors[[0, 5]] ** 2).sum(dim=1).mean().item() == pytest.approx(1.0)
    fans = np.bincount(world.log.item, minlength=ITEMS)
    np.testing.assert_allclose(dot.frequency.numpy(), fans / 6, rtol=1e-5)  # six items a user


def test_rivals_have_as_many_trials_as_the_student_and_none_by_default() -> None:
    assert [subject.name for subject in subjects(DistillConfig())] == [
        "content_student",
        "sequence_student",
        "student",
    ]
    config = DistillConfig(rivals=RIVALS, trials=(Trial(), Trial(temperature=0.05)))
    named = {subject.name: subject for subject in subjects(config)}
    assert set(named) == {"content_student", "sequence_student", "student", *RIVALS}
    for name in RIVALS:
        assert len(named[name].trials) == 2
        assert all(getattr(trial.weights, name) == 1 for trial in named[name].trials)
        assert named[name].is_rival
    with pytest.raises(ValidationError, match=r"distill\.rivals"):
        DistillConfig(trials=(Trial(weights=Weights(aldi=0.5)),))
