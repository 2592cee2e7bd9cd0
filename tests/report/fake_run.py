"""A run folder with plausible figures, written without any training: what the report is developed and tested on."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from PIL import Image, ImageDraw

from recdistill.contracts import names
from recdistill.contracts.records import Records
from recdistill.contracts.tables import EmbeddingTable, write_json, write_table
from recdistill.evaluation import compare, summarise, to_metrics_json
from recdistill.evaluation.benchmarks.new_items import SHARES
from recdistill.tracking.journal import Journal

EVIL = "</script><script>alert(1)</script><img src=x onerror=alert(2)> \"quoted\" & 'co'"
GENRES = ("drama", "comedy", "thriller", "animation", "documentary", "romance", "horror", "western")
_WORDS = (
    ("Quiet", "Last", "Red", "Northern", "Hidden", "Second", "Paper", "Winter"),
    ("Harbour", "Letter", "Summer", "House", "Train", "Garden", "Season", "Map"),
)
_QUALITY = {
    "student": 0.094,
    "content_student": 0.026,
    "raw_content": 0.042,
    "ridge": 0.019,
    "kernel_ridge": 0.068,
    "ease": 0.0925,
    "ease_content": 0.097,
    "id_teacher": 0.089,
    "sequence_teacher": 0.049,
    "popularity": 0.05,
}
_GROUPS = {
    "none": 0.0,
    "random": -0.0004,
    "raw_content": 0.010,
    "kernel_ridge": 0.0106,
    "id_teacher": 0.004,
    "student": 0.0085,
    "raw_content+student": 0.0121,
}


def write_run(
    out: Path, *, seeds: tuple[int, ...] = (0, 1), items: int = 320, users: int = 116, shift: float = 0.0
) -> Path:
    """Write a whole run folder.

    Args:
        shift: added to the student's quality, for comparing runs.
    """
    rng = np.random.default_rng(7)
    genre = rng.integers(0, len(GENRES), items)
    ids = pd.Index([f"m{at:04d}" for at in range(items)])
    cold = rng.random(items) < 0.12
    write_recipe(out, seeds=seeds)
    _catalogue(out / "data", ids, genre, rng)
    _split(out / "split" / "time", ids, cold, rng)
    records = []
    for seed in seeds:
        part = out / f"seed-{seed}" / "time"
        _vectors(part / "distill" / "final", ids, genre, seed)
        records += [_evaluate(part / "evaluate", ids, users, seed, shift), _rank(part / "rank", users, seed)]
        _summaries(part, seed)
    _mining(out / f"seed-{seeds[0]}" / "time" / "mine" / "final", ids, cold, rng)
    _journal(out, seeds)
    every = pd.concat(records)
    gains = compare(every, "student", "content_student", draws=200)
    write_json(to_metrics_json(summarise(every, draws=200), gains), out / "metrics.json")
    quality = {
        "items": items,
        "distinct": items - 31,
        "collision_rate": 0.18,
        "largest_bucket": 4,
        "usage": [1.0, 0.93],
        "perplexity": [28.4, 25.1],
        "cosine": 0.71,
        "neighbours": {"k": 10, "shared": [0.62, 0.31], "chance": [0.034, 0.0012], "overlap": 0.425},
        "tags": {"genres": {"nmi": [0.52, 0.61], "chance": [0.04, 0.3]}},
        "kept": {"items": items - 20, "whole": 0.874, "levels": [0.953, 0.902]},
    }
    write_json(
        {
            "recdistill": "0.1.0",
            "items": items,
            "width": 128,
            "semantic_ids": {"method": "residual_kmeans", "sizes": [32, 32], **quality},
            "match_rows": 5120,
        },
        out / "export" / "export.json",
    )
    return out


def write_recipe(out: Path, *, seeds: tuple[int, ...] = (0,), **sections: Any) -> None:
    """Write ``recipe.json``, which says what of the folder counts."""
    recipe = {"name": "demo", "seeds": list(seeds), "data": {"adapter": "movielens"}, "split": {"protocol": "time"}}
    write_json(recipe | sections, out / "recipe.json")


def _catalogue(data: Path, ids: pd.Index, genre: np.ndarray, rng: np.random.Generator) -> None:
    titles = [f"{_WORDS[0][at % 8]} {_WORDS[1][at // 8 % 8]} ({1960 + at % 64})" for at in range(len(ids))]
    titles[0] = EVIL
    pictured = np.arange(len(ids)) % 4 != 3
    table = pd.DataFrame(
        {
            names.ITEM_ID: ids,
            "text_plot": ["Someone arrives, and someone leaves."] * len(ids),
            "text_title": titles,
            "tags_genres": [[GENRES[g], GENRES[(g + at) % 8]] if at % 5 else [GENRES[g]] for at, g in enumerate(genre)],
            "tags_country": [["France", "Japan"][at % 2 :] for at in range(len(ids))],
            "number_year": 1960.0 + np.arange(len(ids)) % 64,
            names.IMAGES: [[f"p-{item}"] if has else [] for item, has in zip(ids, pictured, strict=True)],
        }
    )
    write_table(table, data / "items.parquet")
    media = []
    for at, item in enumerate(ids):
        if pictured[at]:
            file = io.BytesIO()
            _poster(titles[at] if at else "Evil", int(genre[at]), rng).save(file, "JPEG", quality=80)
            media.append(
                {
                    names.MEDIA_ID: f"p-{item}",
                    names.MEDIA_PATH: None,
                    names.MEDIA_BYTES: file.getvalue() if at != 5 else b"no picture",
                }
            )
    schema = pa.schema(
        [(names.MEDIA_ID, pa.string()), (names.MEDIA_PATH, pa.string()), (names.MEDIA_BYTES, pa.binary())]
    )
    write_table(pa.Table.from_pylist(media, schema=schema), data / "media.parquet")
    log = {
        "events": 100_836,
        "users": 610,
        "items": len(ids),
        "positives": 48_580,
        "behaviours": {"liked": 48_580, "loved": 13_211},
        "users_without_positive": 3,
        "first": "1996-03-29T18:36:55+00:00",
        "last": "2018-09-24T14:27:30+00:00",
    }
    warnings = ["3 of 610 users have no positive behaviour: they are never asked about", "images: 1 unreadable"]
    have = {"text_title": len(ids), "text_plot": len(ids) - 4, "tags_genres": len(ids), "images": int(pictured.sum())}
    found = {
        "adapter": "movielens",
        "read": {"interactions": {"rows": 100_836, "dropped": {"unknown item": 0}}},
        "interactions": log,
    }
    write_json(
        {
            **found,
            "items": {"items": len(ids), "items_with": have},
            "contracts": {"items": "1.0.0"},
            "warnings": warnings,
        },
        data / "validation.json",
    )
    write_json(
        {
            "modalities": {
                "text": {"encoder": "minilm", "width": 384, "items": len(ids)},
                "image": {"encoder": "efficientnet-lite0", "items": int(pictured.sum())},
            },
            "bad_media": 1,
        },
        data.parent / "content" / "encode.json",
    )


def _poster(title: str, genre: int, rng: np.random.Generator) -> Image.Image:
    hue = np.array(
        [
            [196, 90, 60],
            [224, 170, 60],
            [60, 70, 96],
            [80, 160, 120],
            [120, 130, 140],
            [200, 100, 130],
            [60, 40, 50],
            [170, 130, 80],
        ]
    )[genre]
    image = Image.new("RGB", (120, 168), tuple(int(v) for v in np.clip(hue + rng.integers(-25, 25, 3), 0, 255)))
    draw = ImageDraw.Draw(image)
    x, y = (int(v) for v in rng.integers(20, 90, 2))
    draw.ellipse((x, y, x + 50, y + 50), fill=tuple(int(v) for v in np.clip(hue + 60, 0, 255)))
    draw.text((8, 148), title[:18], fill="white")
    return image


def _split(folder: Path, ids: pd.Index, cold: np.ndarray, rng: np.random.Generator) -> None:
    weight = np.where(cold, 0, 1 / (1 + np.arange(len(ids))))
    train = pd.DataFrame({names.ITEM_ID: ids[rng.choice(len(ids), 8000, p=weight / weight.sum())]})
    write_table(train, folder / "train.parquet")
    roles = np.where(cold, "test_cold", "warm").astype(object)
    write_table(pd.DataFrame({names.ITEM_ID: ids, names.ROLE: roles}), folder / "items.parquet")
    checks = {
        "no test-cold item before the test window": True,
        "no cold item in training": True,
        "training ends before validation begins": True,
    }
    report = {
        "protocol": "time",
        "seed": 0,
        "validation_from": "2015-11-03T00:00:00+00:00",
        "test_from": "2017-02-11T00:00:00+00:00",
        "counts": {"train": 80_668, "validation": 10_084, "test": 10_084, "validation_judge": 0, "test_judge": 0},
        "users": {"train": 512, "validation": 98, "test": 116},
        "items": {"warm": int((~cold).sum()), "validation_cold": 0, "test_cold": int(cold.sum())},
        "checks": checks,
    }
    write_json(report, folder / "split.json")


def _vectors(folder: Path, ids: pd.Index, genre: np.ndarray, seed: int) -> None:
    rng = np.random.default_rng(seed)
    for name, spread in (("student", 0.55), ("content_student", 1.1)):
        centres = np.random.default_rng(3).normal(size=(len(GENRES), 24))
        vectors = centres[genre] + spread * rng.normal(size=(len(ids), 24)) * 1.6
        EmbeddingTable(ids, vectors.astype(np.float32), metadata={"kind": name}).write(folder / f"{name}.parquet")


def _evaluate(folder: Path, ids: pd.Index, users: int, seed: int, shift: float) -> pd.DataFrame:
    records = Records(seed, "time")
    user_ids, units = pd.Index([f"u{at}" for at in range(users)]), np.repeat(np.arange(users), 20)
    frames = []
    for at, (subject, quality) in enumerate(_QUALITY.items()):
        rng = np.random.default_rng([seed, at])
        quality += shift if subject == "student" else 0.0
        ease = np.random.default_rng(5).gamma(2.0, 0.5, users)[units]
        for benchmark, factor in (
            ("seq2item_vanilla", 1.0),
            ("seq2item_filtered", 1.6),
            ("gid_i2i", 1.9),
            ("copair_i2i", 1.8),
            ("content_i2i", 0.8),
        ):
            for split, share in (
                ("all", 1.0),
                ("warm", 1.2),
                ("cold", 0.0 if subject in ("ease", "popularity", "id_teacher") else 0.4),
            ):
                for k in (1, 10, 25, 50, 100):
                    chance = np.clip(quality * factor * share * ease * (k / 10) ** 0.6, 0, 0.95)
                    records.add(
                        subject, benchmark, split, f"recall_at_{k}", units, user_ids, rng.random(len(units)) < chance
                    )
                chance = np.clip(quality * factor * share * ease * 0.6, 0, 1)
                records.add(subject, benchmark, split, "ndcg_at_10", units, user_ids, chance * rng.random(len(units)))
            records.add(
                subject,
                benchmark,
                "cold",
                "recall_at_25_among_cold",
                units,
                user_ids,
                rng.random(len(units)) < 0.1 + quality,
            )
        if subject not in ("ease", "popularity", "id_teacher", "sequence_teacher"):
            for share in SHARES:
                for split, k, chance in (("all", 10, quality * (1 - share / 120)), ("cold", 25, quality * share / 80)):
                    hits = rng.random(len(units)) < chance
                    records.add(subject, "new_items", split, f"recall_at_{k}_share_{share}", units, user_ids, hits)
                    if share == 10:
                        records.add(subject, "new_items", split, f"recall_at_{k}_levelled", units, user_ids, hits)
            area = quality**2 * rng.gamma(2.0, 0.5, users)
            records.add(subject, "new_items", "all", "frontier_area", np.arange(users), user_ids, area)
        records.add(
            subject, "bijective", "all", "bijective_accuracy", units, user_ids, rng.random(len(units)) < 0.3 + quality
        )
        records.whole(subject, "clustering", "all", "nmi", 0.4 + quality)
        records.add(
            subject,
            "ranking_consistency",
            "all",
            "kendall_tau",
            units,
            user_ids,
            0.1 * rng.normal(size=len(units)) + quality,
        )
        gap, drawn = 3 * quality, min(1500, len(units))
        true, random = np.tanh(rng.normal(gap, 0.25, drawn)), np.tanh(rng.normal(0, 0.22, drawn))
        matched = np.tanh(rng.normal(gap / 3, 0.22, drawn))
        records.add(
            subject, "separability", "all", "auc", units[:drawn], user_ids, (true[:, None] > random[None, :]).mean(1)
        )
        records.whole(subject, "separability", "all", "overlap_coefficient", float(0.9 - 2 * gap))
        split = np.where(np.arange(drawn) % 9, "warm", "cold")
        frames += [
            pd.DataFrame({"subject": subject, "split": split, "kind": kind, "similarity": v.astype(np.float32)})
            for kind, v in (("true", true), ("random", random), ("matched", matched))
        ]
    records.write(folder / "metric_records.parquet")
    write_table(pd.concat(frames, ignore_index=True), folder / "separability.parquet")
    chosen = {
        "kernel_ridge": {
            "settings": {"l2": 0.4, "gamma": 1.2},
            "validation": 0.07,
            "tried": [{"l2": 0.1, "validation": 0.06}],
        }
    }
    write_json(
        {
            "questions": {"seq2item_vanilla": 2320},
            "users": users,
            "baselines": chosen,
            "skipped": {},
            "left_out": {"gid_others_i2i": "training knows every user of the judge window"},
            "seconds": {"all": 41.2},
            "values": {},
        },
        folder / "evaluate.json",
    )
    return pd.read_parquet(folder / "metric_records.parquet")


def _rank(folder: Path, users: int, seed: int) -> pd.DataFrame:
    rng = np.random.default_rng([seed, 99])
    rows: list[dict[str, Any]] = []

    def add(subject: str, benchmark: str, metric: str, value: float, half: float | None, split: str = "all") -> None:
        low, high = (None, None) if half is None else (value - half, value + half)
        rows.append(
            {
                "subject": subject,
                "benchmark": benchmark,
                "split": split,
                "metric": metric,
                "seed": seed,
                "fold": "time",
                "unit": None,
                "total": value,
                "count": 1.0,
                "low": low,
                "high": high,
            }
        )

    for group, gain in _GROUPS.items():
        noise = float(rng.normal(0, 0.0005))
        for split in ("all", "warm", "cold"):
            add(group, "ranker", "auc", 0.8097 + gain + noise, 0.006, split)
            add(group, "ranker", "logloss", 0.52 - gain, None, split)
            if group != "none":
                add(group, "ranker", "auc_delta", gain + noise, 0.002, split)
        for user in range(users):
            values = {
                "subject": group,
                "benchmark": "ranker",
                "split": "all",
                "metric": "gauc",
                "seed": seed,
                "fold": "time",
                "unit": f"u{user}",
            }
            rows.append(
                {
                    **values,
                    "total": 10 * (0.7173 + gain + rng.normal(0, 0.05)),
                    "count": 10.0,
                    "low": None,
                    "high": None,
                }
            )
        add(group, "lt", "lt7_proxy", 2.31 + 3 * gain, 0.08)
        if group != "none":
            add(group, "lt", "lt7_proxy_delta", 3 * gain, 0.02)
        add(group, "lt", "r2", 0.41, None)
    for name, r2 in (("surrogate", 0.41), ("naive", 0.33)):
        add(name, "lt", "lt7_r2", r2, 0.05)
        add(name, "lt", "lt7_rank_correlation", r2 + 0.2, None)
        add(name, "lt", "lt7_calibration_slope", r2 + 0.5, None)
    table = pd.DataFrame(rows)
    write_table(table, folder / "metric_records.parquet")
    lifetime = {
        "lt7": {
            "computed": True,
            "asked_days": 7,
            "observed_days": 7,
            "r2": 0.41,
            "calibration_slope": 0.91,
            "caution": "the log does not show that pleasing brings users back",
        },
        "lt30": {"computed": False, "reason": "the log spans 4 days; six are needed"},
        "observed": {"users": 90, "retention_day_7": 0.25, "mean_days_away_7": 3.5, "mean_days_away_30": None},
    }
    write_json(
        {
            "negatives": "logged",
            "rows": {"train": {"rows": 9000}},
            "groups": {"none": {"best_step": 300}},
            "values": {},
            "lifetime": lifetime,
        },
        folder / "rank.json",
    )
    return table


def _summaries(part: Path, seed: int) -> None:
    write_json(
        {
            "id_teacher": {"best_step": 4200, "validation": 0.081, "dim": 64},
            "sequence_teacher": {"best_step": 900, "validation": 0.047},
        },
        part / "teach" / "teachers.json",
    )
    weights = {"sequence_to_item": 1.0, "relational": 1.0, "alignment": 0.0, "item_to_item": 0.1}
    write_json(
        {"student": {"chosen": weights, "steps": 400, "validation_recall_at_10": [0.119, 0.117], "parameters": 98_432}},
        part / "distill" / "distill.json",
    )


def _mining(folder: Path, ids: pd.Index, cold: np.ndarray, rng: np.random.Generator) -> None:
    perspectives = (
        "content_single_peak",
        "content_multi_peak",
        "collaborative_single_peak",
        "collaborative_multi_peak",
    )
    rows, funnel = [], {}
    for at, name in enumerate(perspectives):
        lost = {
            "too few earlier items": 1800,
            "fewer than 3 positive behaviours": 9000 - 2500 * at,
            "behaviours disagree": 2100 + 500 * at,
        }
        kept = 40_000 - sum(lost.values())
        funnel[name] = {"targets": 40_000, "kept_pairs": kept, "kept_users": 580 - 60 * at, "lost": lost}
        for user in range(6):
            for turn in range(3):
                chosen = rng.choice(np.flatnonzero(~cold), 9, replace=False)
                time = pd.Timestamp("2016-01-01", tz="UTC") + pd.Timedelta(days=turn)
                rows.append(
                    {
                        names.USER_ID: f"u{user}",
                        names.QUERY_ITEMS: ids[chosen[:8]].tolist(),
                        names.TARGET_ITEM: ids[chosen[8]],
                        names.PERSPECTIVE: name,
                        names.TIMESTAMP: time,
                    }
                )
    write_table(pd.DataFrame(rows), folder / "interest_pairs.parquet")
    about = {"users": 610, "users_with_a_target": 598, "behaviours": ["like", "love"], "single_peak_behaviours": 2}
    write_json({**about, "perspectives": funnel}, folder / "funnel.json")


def _journal(out: Path, seeds: tuple[int, ...]) -> None:
    journal = Journal(out)

    def begin(uid: str, name: str, parent: str | None, params: dict[str, str]) -> None:
        journal.write(
            {
                "op": "run",
                "run": uid,
                "time": 1,
                "experiment": "demo",
                "name": name,
                "parent": parent,
                "params": params,
                "tags": {"recdistill.version": "0.1.0"},
                "identity": "x",
            }
        )

    for seed in seeds:
        rng = np.random.default_rng(seed)
        begin(
            f"p{seed}",
            f"seed-{seed}",
            None,
            {"distill.steps": "400", "split.protocol": "time", "data.root": "<b>data</b>", "seed": str(seed)},
        )
        for stage, curves in (
            ("teach", ("id_teacher", "sequence_teacher")),
            ("distill", ("student/selection-0", "student/final", "content_student/final")),
            ("rank", ("ranker_none", "ranker_student")),
        ):
            begin(f"{stage}{seed}", f"seed-{seed}/time/{stage}", f"p{seed}", {})
            for at, curve in enumerate(curves):
                for step in range(0, 400, 10):
                    loss = 2 + at / 3 + 3 * np.exp(-step / 90) + 0.05 * rng.normal()
                    journal.write(
                        {
                            "op": "metrics",
                            "run": f"{stage}{seed}",
                            "step": step,
                            "time": step,
                            "values": {f"{curve}/loss": loss, f"{curve}/sequence_to_item": loss / 2},
                        }
                    )
                    if step % 50 == 0:
                        values = {
                            f"{curve}/validation": 0.1 * (1 - np.exp(-step / 120)) + 0.01 * at + 0.002 * rng.normal()
                        }
                        journal.write(
                            {"op": "metrics", "run": f"{stage}{seed}", "step": step, "time": step, "values": values}
                        )
    journal.close()


if __name__ == "__main__":
    import sys

    from recdistill.report import build_report

    folder = Path(sys.argv[1])
    write_run(folder)
    print(json.dumps({"page": str(build_report(folder, title="movielens-posters <time>"))}))
