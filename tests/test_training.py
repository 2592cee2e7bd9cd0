"""The training loop: killed and resumed equals uninterrupted, the best state comes back, divergence is named."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recdistill.errors import Diverged
from recdistill.training import fit, step_generator


class Killed(Exception):
    pass


class Toy:
    """Dropout, a drawn batch and Adam: everything that has a state or is random."""

    def __init__(self, kill_at: int | None = None) -> None:
        torch.manual_seed(1)
        self.model = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Dropout(0.5), torch.nn.Linear(4, 1))
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=0.05)
        self.kill_at = kill_at

    def step(self, step: int) -> dict[str, float]:
        if step == self.kill_at:
            raise Killed
        batch = torch.randn(8, 4, generator=step_generator(7, step))
        self.model.train()
        loss = (self.model(batch) - batch.sum(1, keepdim=True)).square().mean()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return {"loss": loss.item()}

    def validate(self) -> float:
        self.model.eval()
        grid = torch.linspace(-1, 1, 32).reshape(8, 4)
        return -(self.model(grid) - grid.sum(1, keepdim=True)).square().mean().item()

    def run(self, checkpoint, **changes):
        options = {
            "steps": 30,
            "validate": self.validate,
            "validate_every": 5,
            "patience": 3,
            "checkpoint_seconds": 0.0,
            "key": "k",
            **changes,
        }
        return fit(
            self.step,
            seed=7,
            state={"model": self.model, "optimizer": self.optimizer},
            checkpoint=checkpoint,
            description="toy",
            log=lambda metrics, step: None,
            **options,
        )

    def weights(self) -> torch.Tensor:
        return torch.cat([p.detach().ravel() for p in self.model.parameters()])


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    toy = Toy()
    return toy, toy.run(tmp_path_factory.mktemp("fit") / "whole", checkpoint_seconds=math.inf)


@settings(max_examples=6, deadline=None)
@given(st.integers(1, 29))
def test_killed_and_resumed_equals_uninterrupted(tmp_path_factory, whole, kill_at):
    folder = tmp_path_factory.mktemp("fit")
    killed = Toy(kill_at)
    try:
        killed.run(folder / "killed")
    except Killed:
        assert (folder / "killed").exists()
    again = Toy()
    found = again.run(folder / "killed")
    assert torch.equal(again.weights(), whole[0].weights())
    assert found == whole[1] and not (folder / "killed").exists()


def test_a_checkpoint_of_other_settings_is_ignored(tmp_path, whole):
    with pytest.raises(Killed):
        Toy(10).run(tmp_path / "c", key="something else")
    again = Toy()
    again.run(tmp_path / "c")
    assert torch.equal(again.weights(), whole[0].weights())


def test_a_checkpoint_that_is_not_whole_is_ignored(tmp_path, whole):
    with pytest.raises(Killed):
        Toy(10).run(tmp_path / "c")
    next((tmp_path / "c").rglob("*.safetensors")).unlink()
    again = Toy()
    assert again.run(tmp_path / "c") == whole[1]
    assert torch.equal(again.weights(), whole[0].weights())


def test_the_best_state_is_restored(tmp_path):
    toy = Toy()
    scores = iter([1.0, 3.0, 2.0, 2.0, 2.0])
    seen = {}

    def validate() -> float:
        score = next(scores)
        seen[score] = toy.weights()
        return score

    result = toy.run(tmp_path / "c", validate=validate)
    assert (result.best_step, result.best_score, result.steps) == (10, 3.0, 25)  # patience 3 after step 10
    assert torch.equal(toy.weights(), seen[3.0])


def test_divergence_names_step_and_seed(tmp_path):
    toy = Toy()
    with pytest.raises(Diverged, match=r"loss is not finite at step 2 \(seed 7\)"):
        fit(
            lambda step: {"loss": math.nan if step == 2 else 0.0},
            steps=5,
            seed=7,
            state={},
            checkpoint=tmp_path / "c",
            key="k",
            description="toy",
            log=lambda metrics, step: None,
        )
    assert torch.isfinite(toy.weights()).all()
