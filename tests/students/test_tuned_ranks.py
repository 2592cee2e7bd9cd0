"""Tuned towers at two ranks, of which one has no picture in its batch: one step is that of the mean gradient."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import torch
from ranks import launch
from safetensors.torch import load_file, save_file
from tiny_world import World as Catalogue
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from recdistill.students import RecDistillStudent, StudentConfig, build_student, feature_source
from recdistill.world import World

RATE = 0.1
CONFIG = StudentConfig.model_validate(
    {
        "dim": 8,
        "modalities": ("image", "text"),
        "skip": None,
        "tuning": {"image": "full", "text": "lora"},
        "modality_dropout": 0,
        "dropout": 0,
    }
)


def loss_of(student: torch.nn.Module, paths: dict[str, str], rows: list[int]) -> Tensor:
    ids = pd.Index([f"i{number:03d}" for number in range(24)])
    source = feature_source(CONFIG, content=Path(paths["content"]), data=Path(paths["data"]), item_ids=ids)
    vectors: Tensor = student(*source.batch(torch.tensor(rows)))
    return vectors.square().mean()


def weights_of(student: RecDistillStudent) -> dict[str, Tensor]:
    return {name: weight.detach() for name, weight in student.named_parameters() if weight.requires_grad}


def work(world: World, folder: Path) -> None:
    paths = json.loads((folder / "paths.json").read_text())
    student = build_student(CONFIG, content=Path(paths["content"]), seed=0).train()
    together = DistributedDataParallel(student)
    loss_of(together, paths, paths["rows"][world.rank]).backward()
    torch.optim.SGD(student.parameters(), lr=RATE).step()
    save_file(weights_of(student), folder / f"{world.rank}.safetensors")


def test_a_rank_without_pictures_takes_part(catalogue: Catalogue, tmp_path: Path) -> None:
    without = [row for row, item in enumerate(catalogue.items) if "image" not in item]
    rows = [list(range(8)), without]
    paths = {"content": str(catalogue.content), "data": str(catalogue.data), "rows": rows}
    (tmp_path / "paths.json").write_text(json.dumps(paths))
    launch(work, 2, tmp_path)
    student = build_student(CONFIG, content=catalogue.content, seed=0).train()
    torch.stack([loss_of(student, paths, mine) for mine in rows]).mean().backward()  # type: ignore[arg-type]
    torch.optim.SGD(student.parameters(), lr=RATE).step()
    one, other = (load_file(tmp_path / f"{rank}.safetensors") for rank in range(2))
    for name, weight in weights_of(student).items():
        assert torch.equal(one[name], other[name]), name
        torch.testing.assert_close(one[name], weight, atol=1e-6, rtol=1e-5)
