"""Stages: skipped when unchanged, re-run when what they depend on changes, kept when killed."""

from __future__ import annotations

import pytest

from recdistill.runs import Runner, Stage


class Chain:
    """Two stages, ``a`` → ``b``, that write down what they did."""

    def __init__(self, out, **settings):
        self.ran: list[str] = []
        self.runner = Runner(out, lambda line: None)
        self.settings = {"a": 1, "b": 1, **settings}
        self.fail_in: str | None = None

    def run(self):
        for name, reads in (("a", []), ("b", ["a"])):
            self.runner.execute(
                Stage(
                    name,
                    name,
                    {"value": self.settings[name]},
                    reads,
                    (),
                    lambda to, key, name=name: self.work(name, to),
                )
            )
        return self.ran

    def work(self, name, folder):
        self.ran.append(name)
        folder.mkdir(exist_ok=True)
        with (folder / "work.txt").open("a") as file:
            file.write(f"{self.settings[name]} ")
        if self.fail_in == name:
            raise KeyboardInterrupt


def test_unchanged_stages_are_skipped(tmp_path):
    assert Chain(tmp_path).run() == ["a", "b"]
    assert Chain(tmp_path).run() == []


def test_a_changed_setting_runs_just_what_depends_on_it(tmp_path):
    Chain(tmp_path).run()
    assert Chain(tmp_path, b=2).run() == ["b"]
    assert Chain(tmp_path, a=2, b=2).run() == ["a", "b"]


def test_a_lost_or_torn_output_runs_its_stage_again(tmp_path):
    Chain(tmp_path).run()
    (tmp_path / "b" / "work.txt").unlink()
    assert Chain(tmp_path).run() == ["b"]
    (tmp_path / "b" / "work.txt").write_text("torn")
    assert Chain(tmp_path).run() == ["b"]


@pytest.mark.parametrize("stage", ["a", "b"])
def test_a_killed_stage_finds_what_it_left(tmp_path, stage):
    killed = Chain(tmp_path)
    killed.fail_in = stage
    with pytest.raises(KeyboardInterrupt):
        killed.run()
    assert stage in Chain(tmp_path).run()
    assert (tmp_path / stage / "work.txt").read_text() == "1 1 "


def test_a_write_torn_by_a_kill_is_cleared_away(tmp_path):
    killed = Chain(tmp_path)
    killed.fail_in = "b"
    with pytest.raises(KeyboardInterrupt):
        killed.run()
    (tmp_path / "b" / ".table.parquet.x1.tmp").write_text("half")
    Chain(tmp_path).run()
    assert [path.name for path in (tmp_path / "b").glob(".*.tmp")] == []


def test_what_a_stage_of_other_settings_left_is_removed(tmp_path):
    killed = Chain(tmp_path)
    killed.fail_in = "b"
    with pytest.raises(KeyboardInterrupt):
        killed.run()
    assert Chain(tmp_path, b=5).run() == ["b"]
    assert (tmp_path / "b" / "work.txt").read_text() == "5 "
