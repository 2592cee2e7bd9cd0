"""Stages: skipped when unchanged, re-run when what they depend on changes, kept when killed."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys

import pytest

from recdistill.errors import UserError
from recdistill.runs import Runner, Stage, locked


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


def stage(folder="data", work=None, **about):
    values = {"settings": {}, "reads": (), "code": (), "run": work or (lambda to, key: None), **about}
    return Stage(folder, folder, **values)


def test_a_folder_that_no_run_has_written_is_never_emptied(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "raw.csv").write_text("the user's")
    runner = Runner(tmp_path, lambda line: None)
    for attempt in (lambda: runner.execute(stage()), lambda: runner.check([stage()])):
        with pytest.raises(UserError, match=r"data: the stage 'data' would write here.*'raw.csv'"):
            attempt()
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["raw.csv"]
    (tmp_path / "data" / "_stage.json").write_text("[1]")  # a file of that name is not yet our mark
    with pytest.raises(UserError):
        runner.execute(stage())


def test_an_empty_folder_is_taken_and_a_file_in_its_place_is_said(tmp_path):
    (tmp_path / "data").mkdir()
    assert Runner(tmp_path, lambda line: None).execute(stage())
    (tmp_path / "split").write_text("")
    with pytest.raises(UserError, match="there is a file"):
        Runner(tmp_path, lambda line: None).check([stage("split")])


def test_a_stage_does_not_write_over_its_own_input(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "data")
    runner = Runner(tmp_path, lambda line: None)
    for inside in ("data", "data/raw.csv", "link/raw.csv"):
        with pytest.raises(UserError, match="over its own input"):
            runner.check([stage()], inputs=[tmp_path / inside])
        with pytest.raises(UserError, match="over its own input"):
            runner.check([stage()], roots=[tmp_path / inside])
    with pytest.raises(UserError, match="over its own input"):
        runner.check([stage()], inputs=[tmp_path])  # a folder of files, all of which are read
    runner.check([stage()], inputs=[tmp_path / "raw", tmp_path / "data.csv"], roots=[tmp_path])


def test_emptying_that_was_killed_goes_on(tmp_path, monkeypatch):
    Chain(tmp_path).run()

    unlink = pathlib.Path.unlink

    def killed(path, missing_ok=False):
        if path.name == "work.txt":
            raise KeyboardInterrupt
        unlink(path, missing_ok=missing_ok)

    with monkeypatch.context() as patched:
        patched.setattr("pathlib.Path.unlink", killed)
        with pytest.raises(KeyboardInterrupt):
            Chain(tmp_path, b=2).run()
    assert not (tmp_path / "b" / "_stage.json").exists() or (tmp_path / "b" / "_running.json").exists()
    assert Chain(tmp_path, b=2).run() == ["b"]
    assert (tmp_path / "b" / "work.txt").read_text() == "2 "


def test_a_kill_just_after_a_stage_has_ended_does_not_cost_it(tmp_path, monkeypatch):
    unlink = pathlib.Path.unlink

    def killed(path, missing_ok=False):
        if path.name == "_running.json" and path.parent.name == "b":
            raise KeyboardInterrupt
        unlink(path, missing_ok=missing_ok)

    with monkeypatch.context() as patched:
        patched.setattr("pathlib.Path.unlink", killed)
        with pytest.raises(KeyboardInterrupt):
            Chain(tmp_path).run()
    assert Chain(tmp_path).run() == []
    assert (tmp_path / "b" / "work.txt").read_text() == "1 "
    assert not (tmp_path / "b" / "_running.json").exists()


def test_a_forgotten_stage_runs_from_nothing_and_stays_ours(tmp_path):
    chain = Chain(tmp_path)
    chain.run()
    chain.runner.forget("b")
    chain.runner.forget("never run")
    assert Chain(tmp_path).run() == ["b"]
    assert (tmp_path / "b" / "work.txt").read_text() == "1 "


def test_a_run_folder_has_one_run_at_a_time_and_a_kill_frees_it(tmp_path):
    code = (
        "import sys, time; from pathlib import Path; from recdistill.runs import locked\n"
        "with locked(Path(sys.argv[1])):\n    print('held', flush=True); time.sleep(60)\n"
    )
    holder = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE)
    assert holder.stdout.readline() == b"held\n"
    with pytest.raises(UserError, match=f"in use by another run \\(pid {holder.pid}\\)"), locked(tmp_path):
        pass
    holder.kill()
    holder.wait()
    for _ in range(2):
        with locked(tmp_path):
            assert (tmp_path / ".lock").read_text() == f"{os.getpid()}\n"


@pytest.mark.parametrize("name", ["page.html", "style.css", "more/part.js", "code.py"])
def test_every_file_of_a_stages_package_counts(tmp_path, monkeypatch, name):
    package = tmp_path / "recdistill"
    (package / "report" / "more").mkdir(parents=True)
    (package / "report" / "__pycache__").mkdir()
    monkeypatch.setattr("recdistill.__file__", str(package / "__init__.py"))
    for file in ("page.html", "style.css", "more/part.js", "code.py"):
        (package / "report" / file).write_text("before")
    runner, reporting = Runner(tmp_path, lambda line: None), stage(code=("report",))
    before = runner.fingerprint(reporting)
    (package / "report" / "__pycache__" / "code.pyc").write_text("compiled")
    assert runner.fingerprint(reporting) == before
    (package / "report" / name).write_text("after!")
    assert runner.fingerprint(reporting) != before
