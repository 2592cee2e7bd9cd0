"""Saved and loaded as a transformers model, with nothing but ``import recdistill``."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tiny_world import World, tiny_bert
from transformers import AutoModel

from recdistill.errors import UserError
from recdistill.students import RecDistillStudent, RecDistillStudentConfig, StudentConfig, build_student
from recdistill.students.registration import register

LOAD = """
import pickle, sys
import recdistill
assert "torch" not in sys.modules, "import recdistill brought torch"
from transformers import AutoConfig, AutoModel
import numpy as np
items = pickle.loads(open("items", "rb").read())
for folder in sys.argv[1:]:
    assert AutoConfig.from_pretrained(folder).model_type == "recdistill-student"
    np.save(folder + ".npy", AutoModel.from_pretrained(folder).encode(items))
"""

BROKEN = """
import sys
class Broken:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "transformers"):
            raise ImportError(f"{name} is broken")
sys.meta_path.insert(0, Broken())
import recdistill
from recdistill.students import EncodersConfig, StudentConfig
print(EncodersConfig().buckets_log2, StudentConfig().kind)
try:
    from recdistill.students import RecDistillStudent
except ImportError as error:
    print(error)
"""


def test_saved_and_loaded_elsewhere_it_is_the_same(world: World, tmp_path: Path) -> None:
    (tmp_path / "items").write_bytes(pickle.dumps(world.given))
    expected = {}
    for kind in ("linear", "fusion"):
        config = StudentConfig.model_validate({"kind": kind, "dim": 12, "width": 16, "heads": 2})
        student = build_student(config, content=world.content, seed=0).eval()
        student.save_pretrained(tmp_path / kind)
        assert sorted(path.name for path in (tmp_path / kind).iterdir()) == ["config.json", "model.safetensors"]
        expected[kind] = student.encode(world.given)
    subprocess.run([sys.executable, "-c", LOAD, *expected], check=True, cwd=tmp_path)
    for kind, vectors in expected.items():
        np.testing.assert_allclose(np.load(tmp_path / f"{kind}.npy"), vectors, atol=1e-6)


def test_without_torch_settings_still_work() -> None:
    done = subprocess.run([sys.executable, "-c", BROKEN], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[0] == "15 linear"
    assert "is broken" in done.stdout.splitlines()[1]


def test_registering_again_does_no_harm() -> None:
    before = list(sys.meta_path)
    register()
    register()
    assert sys.meta_path == before
    assert AutoModel._model_mapping[RecDistillStudentConfig] is RecDistillStudent


def test_loading_leaves_nothing_uninitialised(world: World, tmp_path: Path) -> None:
    student = build_student(StudentConfig(dim=8), content=world.content, seed=0)
    student.save_pretrained(tmp_path)
    again = RecDistillStudent.from_pretrained(tmp_path)
    before, after = student.state_dict(), again.state_dict()
    assert before.keys() == after.keys()
    assert all(before[name].dtype == after[name].dtype and before[name].equal(after[name]) for name in before)
    assert not again.training


@pytest.mark.parametrize(
    ("kind", "version", "says"),
    [("fusion", None, "wrote no format_version"), ("linear", 2, "format 2; this"), ("fusion", 2, "format 2; this")],
)
def test_a_student_whose_weights_mean_something_else_is_refused(
    world: World, tmp_path: Path, kind: str, version: int | None, says: str
) -> None:
    of_format(world, tmp_path, kind, version)
    with pytest.raises(UserError, match=says) as caught:
        AutoModel.from_pretrained(tmp_path)
    assert str(tmp_path) in caught.value.message and caught.value.remedy


def test_a_linear_student_of_before_is_what_it_was(world: World, tmp_path: Path) -> None:
    student = of_format(world, tmp_path, "linear", None)
    again = AutoModel.from_pretrained(tmp_path).eval()
    np.testing.assert_array_equal(again.encode(world.given), student.encode(world.given))


def of_format(world: World, folder: Path, kind: str, version: int | None) -> RecDistillStudent:
    """A student saved in ``folder``, as if by a version that wrote this format; None: none."""
    config = StudentConfig.model_validate({"kind": kind, "dim": 12, "width": 16, "heads": 2})
    student = build_student(config, content=world.content, seed=0).eval()
    student.save_pretrained(folder)
    path = folder / "config.json"
    told = json.loads(path.read_text())
    assert told.pop("format_version") == 1
    path.write_text(json.dumps(told if version is None else told | {"format_version": version}))
    return student


def test_another_tower_under_the_same_name_is_refused(world: World, tmp_path: Path) -> None:
    student = build_student(StudentConfig(dim=8), content=world.content, seed=0).eval()
    tiny_bert(tmp_path / "bert")
    tokenizer = tmp_path / "bert" / "tokenizer_config.json"
    tokenizer.write_text(tokenizer.read_text().replace("40", "39"))
    student.featurizer.spec["encoders"]["text"]["name"] = str(tmp_path / "bert")
    try:
        with pytest.raises(UserError, match="is not the one that this student was trained with"):
            student.encode([{"text": {"title": "Heat"}}])
    finally:
        student.featurizer.spec["encoders"]["text"]["name"] = world.config.text and world.config.text.name
