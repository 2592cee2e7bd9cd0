"""The page, from a run folder with every file and from folders with few or broken ones."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import fake_run
import numpy as np
import pytest

from recdistill.contracts.tables import write_json
from recdistill.errors import UserError
from recdistill.report import build_report
from recdistill.report.blocks import Section, Table, Text
from recdistill.report.folder import RunFolder
from recdistill.report.sections import (
    benchmarks,
    downstream,
    exported,
    inputs,
    learning,
    mining,
    overview,
    pairs,
    separability,
    space,
)
from recdistill.report.sections.space import project

_CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
_VOID = {"meta", "img", "br", "link", "input", "hr"}


class _Page(HTMLParser):
    """What a browser would see: elements, their attributes, and the texts outside scripts and styles."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in _VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> closes nothing"

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] not in ("script", "style"):
            self.text.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def words(self) -> str:
        return " ".join(" ".join(self.text).split())


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fake_run.write_run(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fake_run.write_run(tmp_path_factory.mktemp("small"), seeds=(0,), items=40, users=20)


@pytest.fixture(scope="session")
def html(folder: Path) -> str:
    return build_report(folder, title=f"demo {fake_run.EVIL}").read_text(encoding="utf-8")


@pytest.fixture(scope="session")
def page(html: str) -> _Page:
    return _Page(html)


def test_the_page_needs_nothing_but_itself(html: str, page: _Page) -> None:
    assert len(html) < 8_000_000
    for tag in ("link", "iframe", "object", "embed", "base"):
        assert not page.all(tag)
    for image in page.all("img"):
        assert str(image["src"]).startswith("data:image/")
    assert all("src" not in script for script in page.all("script"))
    assert all(str(anchor["href"]).startswith("#") for anchor in page.all("a"))
    assert not re.search(r"url\(|@import", html)
    policy = next(
        str(meta["content"]) for meta in page.all("meta") if meta.get("http-equiv") == "Content-Security-Policy"
    )
    assert policy.startswith("default-src 'none'; img-src data:;")


def test_every_section_is_there_and_none_left_out(page: _Page) -> None:
    anchors = [str(section["id"]) for section in page.all("section")]
    assert anchors == [
        "overview", "differences", "space", "separability", "new-items", "benchmarks", "ranker", "lifetime", "export",
        "mining", "learning", "data", "leakage", "settings",
    ]  # fmt: skip
    assert {str(link["href"]) for link in page.all("a")} == {f"#{anchor}" for anchor in anchors}
    assert "Left out" not in page.words
    assert "left out:" not in page.words
    assert page.open == [], "elements that are not closed"


def test_hostile_titles_and_settings_stay_text(html: str, page: _Page) -> None:
    assert fake_run.EVIL in page.words
    assert "<b>data</b>" in page.words
    assert len(page.all("script")) == 2  # the map's data and the page's own
    assert not any(set(attributes) & {"onerror", "onload", "onclick"} for _, attributes in page.elements)
    data = re.search(r'<script type="application/json">(.*?)</script>', html, re.DOTALL)
    assert data is not None
    assert "<" not in data.group(1)


def test_figures_of_metrics_json_are_shown(folder: Path, page: _Page) -> None:
    import json

    metrics = json.loads((folder / "metrics.json").read_text())
    for key in ("student/seq2item_vanilla/all/recall_at_10", "content_student/gid_i2i/cold/recall_at_50"):
        figure = metrics[key]
        assert f"{100 * figure['value']:.2f}" in page.words
        assert f"{100 * figure['low']:.2f} … {100 * figure['high']:.2f}" in page.words
    assert f"{metrics['student/ranker/all/auc_delta']['value']:+.4f}" in page.words


def test_the_frontier_is_shown_for_those_who_can_place_new_items(folder: Path, html: str, page: _Page) -> None:
    import json

    metrics = json.loads((folder / "metrics.json").read_text())
    section = html[html.index('<section id="new-items">') : html.index('<section id="benchmarks">')]
    assert f"{1e4 * metrics['student/new_items/all/frontier_area']['value']:.1f}" in section
    assert f"{100 * metrics['student/new_items/cold/recall_at_25_levelled']['value']:.2f}" in section
    ends = [
        metrics[f"student/new_items/{key}"]["value"]
        for key in ("all/recall_at_10_share_0", "cold/recall_at_25_share_0")
    ]
    assert f"Student {100 * ends[0]:.1f} / {100 * ends[1]:.1f} to" in section
    assert "Kernel ridge" in section
    assert "Popularity" not in section
    assert "share_" not in page.words  # the points of a line are not listed again as benchmarks or differences


def test_lifetime_is_called_a_proxy(html: str) -> None:
    section = html[html.index('<section id="lifetime">') : html.index('<section id="export">')]
    assert "These are proxies, not measurements" in section
    for table in re.findall(r"<table>.*?</table>", section, re.DOTALL)[:1]:
        assert "Days (proxy)" in table
    caution = "LT7: the log does not show that pleasing brings users back."
    assert 0 < section.index(caution) < section.index("Days (proxy)")
    assert "LT30: not computed, the log spans 4 days" in section
    assert "Surrogate on a later cohort: R² 0.4100, calibration slope 0.9100." in section
    assert "surrogate · LT7 · calibration slope (1 is right)" in section
    assert "mean days away 7" in section


def test_a_surrogate_without_a_calibration_slope_is_told_by_its_r2(tmp_path: Path) -> None:
    """Predictions that do not vary have none: rank.json says null."""
    proxy = {"value": 2.0, "sd": 0.0, "n": 1, "low": None, "high": None, "units": 0}
    write_json({"none/lt/all/lt7_proxy": proxy}, tmp_path / "metrics.json")
    write_json({"seeds": [0]}, tmp_path / "recipe.json")
    found = {"lt7": {"computed": True, "r2": -0.01, "calibration_slope": None}}
    write_json({"lifetime": found}, tmp_path / "seed-0" / "time" / "rank" / "rank.json")
    tables = [block for block in downstream.lifetime(RunFolder(tmp_path)).blocks if isinstance(block, Table)]
    assert tables[0].caption.endswith("Surrogate on a later cohort: R² −0.0100.")


def test_it_can_be_read_without_seeing(page: _Page) -> None:
    assert page.all("html") == [{"lang": "en"}]
    charts = [str(image["alt"]) for image in page.all("img") if str(image["src"]).startswith("data:image/svg")]
    assert len(charts) >= 8
    assert all(len(alt) > 20 for alt in charts)
    assert all("alt" in image for image in page.all("img"))
    assert len(page.all("caption")) == len(page.all("table")) > 10
    assert {attributes.get("scope") for attributes in page.all("th")} == {"row", "col"}


@pytest.mark.parametrize(
    ("gone", "make", "said"),
    [
        ("metrics.json", overview.overview, "metrics.json"),
        ("metrics.json", benchmarks.tables, "metrics.json"),
        ("metrics.json", downstream.ranker, "figures of the ranker in metrics.json"),
        ("seed-0/time/evaluate", benchmarks.differences, "seed-*/<fold>/evaluate/metric_records.parquet"),
        ("seed-0/time/evaluate", separability.separability, "seed-*/<fold>/evaluate/separability.parquet"),
        ("data", space.space, "seed-0/time/distill/final/student.parquet or data/items.parquet"),
        ("data", inputs.data, "data/validation.json"),
        ("split", inputs.leakage, "split/<fold>/split.json"),
        ("tracking", learning.learning, "tracking/journal-*.jsonl"),
        ("tracking", inputs.settings, "tracking/journal-*.jsonl"),
        ("export", exported.exported, "export/export.json"),
        ("seed-0/time/mine", mining.mining, "seed-*/<fold>/mine/final/funnel.json"),
        ("content/encode.json", inputs.data, "content/encode.json"),
    ],
)
def test_what_is_absent_is_left_out_with_a_word(
    small: Path, tmp_path: Path, gone: str, make: Callable[[RunFolder], Section], said: str
) -> None:
    copy = tmp_path / "run"
    shutil.copytree(small, copy)
    path = copy / gone
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    notes = [block.text for block in make(RunFolder(copy)).blocks if isinstance(block, Text) and block.style == "note"]
    assert any(said in note and ("Left out" in note or "left out" in note) for note in notes), notes


def test_a_benchmark_that_was_not_asked_is_named_with_the_reason(small: Path) -> None:
    notes = [
        of.text for of in benchmarks.tables(RunFolder(small)).blocks if isinstance(of, Text) and of.style == "note"
    ]
    assert any("(Gid-i2i by others): training knows every user of the judge window." in note for note in notes), notes


def test_an_empty_folder_gives_a_page_and_none_gives_an_error(tmp_path: Path) -> None:
    page = _Page(build_report(tmp_path, title="empty").read_text(encoding="utf-8"))
    assert page.words.count("Left out") >= 8
    with pytest.raises(UserError, match="no such run folder"):
        build_report(tmp_path / "nowhere", title="x")
    (tmp_path / "metrics.json").write_text("{ half")
    with pytest.raises(UserError, match=r"metrics\.json: not readable JSON"):
        build_report(tmp_path, title="x")


def test_a_broken_leakage_check_is_loud(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "split" / "time").mkdir(parents=True)
    fake_run.write_recipe(tmp_path)
    text = (folder / "split" / "time" / "split.json").read_text()
    (tmp_path / "split" / "time" / "split.json").write_text(
        text.replace('"no cold item in training": true', '"no cold item in training": false')
    )
    page = _Page(build_report(tmp_path, title="x").read_text(encoding="utf-8"))
    assert "Broken: time: no cold item in training." in page.words
    assert "BROKEN" in page.words


def test_the_same_folder_gives_the_same_page(folder: Path, html: str) -> None:
    again = build_report(folder, title=f"demo {fake_run.EVIL}").read_text(encoding="utf-8")
    assert re.sub(r"Made [^.]*\.", "", again) == re.sub(r"Made [^.]*\.", "", html)


def test_seeds_and_folds_that_the_recipe_no_longer_has_do_not_count(small: Path, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(small, copy)
    before = RunFolder(copy)
    records, page = before.records("evaluate", "student"), build_report(copy, title="x").read_text(encoding="utf-8")
    shutil.copytree(copy / "seed-0", copy / "seed-7")
    shutil.copytree(copy / "seed-0" / "time", copy / "seed-0" / "fold-0")
    shutil.copytree(copy / "split" / "time", copy / "split" / "fold-0")
    journal = next((copy / "tracking").iterdir())
    old = journal.read_text().replace("seed-0", "seed-00").replace('"run": "', '"run": "old-')
    journal.with_name("journal-0.jsonl").write_text(old)
    after = RunFolder(copy)
    assert [str(part.relative_to(copy)) for part in after.parts] == ["seed-0/time"]
    assert len(after.records("evaluate", "student")) == len(records) > 0
    again = build_report(copy, title="x").read_text(encoding="utf-8")
    assert re.sub(r"Made [^.]*\.", "", again) == re.sub(r"Made [^.]*\.", "", page)


def test_the_report_says_which_fold_the_exported_student_is_of(small: Path, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(small, copy)
    said = [block.text for block in exported.exported(RunFolder(copy)).blocks if isinstance(block, Text)]
    assert not any("fold" in text for text in said)
    fake_run.write_recipe(copy, split={"protocol": "folds", "folds": 3})
    said = [block.text for block in exported.exported(RunFolder(copy)).blocks if isinstance(block, Text)]
    assert any("fold-0, one of 3 folds" in text for text in said)


def test_semantic_ids_are_shown_with_chance_beside_what_was_found(small: Path, tmp_path: Path) -> None:
    import json

    text, table = exported.exported(RunFolder(small)).blocks[:2]
    assert isinstance(text, Text) and isinstance(table, Table)
    assert text.text.startswith("Residual k-means: 40 items have 9 distinct IDs; 18.0 % of the items share theirs")
    assert "keeps 42.5 % of its 10 nearest neighbours" in text.text
    assert "Of 20 items that had an ID before, 87.4 % keep it, 95.3 % its first code." in text.text
    assert table.columns == ("Codes", "Used", "Perplexity", "Neighbours inside", "NMI with genres")
    assert [cell.text for cell in table.rows[1].cells] == ["32", "93.0 %", "25.1", "31.0 %", "0.610"]
    assert [cell.interval for cell in table.rows[1].cells[3:]] == ["chance 0.1 %", "chance 0.300"]
    copy = shutil.copytree(small, tmp_path / "run")
    about = json.loads((copy / "export" / "export.json").read_text())
    for newer in ("method", "cosine", "neighbours", "tags", "kept"):
        del about["semantic_ids"][newer]
    write_json(about, copy / "export" / "export.json")
    text, table = exported.exported(RunFolder(copy)).blocks[:2]
    assert isinstance(text, Text) and text.text.endswith("at most 4 one ID.")
    assert isinstance(table, Table) and table.columns == ("Codes", "Used", "Perplexity")


def test_pair_datasets_are_shown_where_the_recipe_makes_them(small: Path, tmp_path: Path) -> None:
    assert pairs.pairs(RunFolder(small)) is None
    copy = shutil.copytree(small, tmp_path / "run")
    fake_run.write_recipe(copy, pairs={})
    section = pairs.pairs(RunFolder(copy))
    assert section is not None and "Left out" in section.blocks[0].text
    made = {"rows": 1234, "queries": 20, "targets": 30, "graded": True, "why_empty": None}
    none = dict.fromkeys(("rows", "queries", "targets"), 0) | {"graded": False, "why_empty": "no <b>field</b>"}
    write_json({"final": {"same_tag": made, "session": none}}, copy / "seed-0" / "time" / "pair" / "pairs.json")
    section = pairs.pairs(RunFolder(copy))
    assert section is not None
    (table,) = [block for block in section.blocks if isinstance(block, Table)]
    assert [row.head for row in table.rows] == ["same tag", "session"]
    assert [cell.text for cell in table.rows[0].cells] == ["1\u202f234", "20", "30", "yes", ""]
    page = _Page(build_report(copy, title="demo").read_text(encoding="utf-8"))
    assert "no <b>field</b>" in page.words and {"href": "#pairs"} in page.all("a")


@pytest.mark.parametrize("shape", [(1, 4), (2, 4), (9, 3), (40, 1), (40, 8)])
def test_projection_of_any_size_stays_in_the_unit_square(shape: tuple[int, int]) -> None:
    flat = project(np.random.default_rng(0).normal(size=shape).astype(np.float32))
    assert flat.shape == (shape[0], 2)
    assert np.isfinite(flat).all()
    assert flat.min() >= 0
    assert flat.max() <= 1


def test_projection_of_equal_vectors_does_not_stall() -> None:
    assert np.isfinite(project(np.ones((60, 5), dtype=np.float32))).all()


def test_projection_keeps_planted_clusters_apart() -> None:
    rng = np.random.default_rng(1)
    label = np.repeat(np.arange(3), 30)
    flat = project(8 * np.eye(3)[label] + 0.1 * rng.normal(size=(90, 3)))
    centres = np.stack([flat[label == at].mean(axis=0) for at in range(3)])
    nearest = np.linalg.norm(flat[:, None] - centres[None], axis=2).argmin(axis=1)
    assert (nearest == label).mean() > 0.95


@pytest.fixture
def dump(tmp_path: Path) -> Callable[[str], str]:
    """The page's elements after its script ran in a headless browser."""
    if _CHROMIUM is None:
        pytest.skip("no Chromium here: install Debian's package chromium to run the page's script")
    chromium = _CHROMIUM

    def run(address: str) -> str:
        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
        flags += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
        flags += [
            f"--user-data-dir={tmp_path / 'profile'}",
            "--virtual-time-budget=3000",
            "--window-size=1280,900",
            "--dump-dom",
        ]
        return subprocess.run([chromium, *flags, address], capture_output=True, text=True, timeout=120).stdout

    return run


def test_the_map_shows_an_item_with_its_poster(folder: Path, html: str, dump: Callable[[str], str]) -> None:
    seen = dump(f"{(folder / 'report.html').as_uri()}#item-7")
    drawn = _Page(seen)
    circles = drawn.all("circle")
    assert len(circles) == 320
    assert sum("stroke-width" in str(circle["style"]) for circle in circles) == sum(
        1 for _ in re.finditer(r'"cold": true', html[html.index("application/json") :])
    )
    assert all("cx:" in str(circle["style"]) for circle in circles)
    assert [option["value"] for option in drawn.all("option")] == ["0", "1"]
    assert seen.index(">genres</option>") < seen.index(">country</option>")  # the space's neighbours agree in genres
    card = seen[seen.index('class="card shown"') :]
    card = card[: card.index("</div></div>")]
    assert "data:image/jpeg;base64," in card
    assert re.search(r"<b>\w+ \w+ \(\d{4}\)</b>", card)
    assert [button["aria-pressed"] for button in drawn.all("button")][:2] == ["true", "false"]
    assert len(drawn.all("button")) == 2 + len(fake_run.GENRES)


def test_a_hostile_title_stays_text_in_the_map(folder: Path, html: str, dump: Callable[[str], str]) -> None:
    import json

    found = re.search(r'<script type="application/json">(.*?)</script>', html, re.DOTALL)
    assert found is not None
    titles = [point["title"] for point in json.loads(found.group(1))["points"]]
    seen = dump(f"{(folder / 'report.html').as_uri()}#item-{titles.index(fake_run.EVIL)}")
    assert "<b>&lt;/script&gt;&lt;script&gt;alert(1)" in seen
    assert "<script>alert(1)" not in seen
