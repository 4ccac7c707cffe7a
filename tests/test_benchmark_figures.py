"""Figures in the documentation are those of the measured rows."""

import json
import re
from math import prod
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results"


def _text(name: str) -> str:
    return " ".join((ROOT / name).read_text(encoding="utf-8").split())


def _dice(file: str, key: str, name: str, *, data: str = "kvasir") -> dict[int, float]:
    """Seed -> Dice of a row."""
    rows = [json.loads(line) for line in (RESULTS / file).read_text(encoding="utf-8").splitlines()]
    own = [row for row in rows if row[key] == name and row["data"] == data and row.get("dice") is not None]
    return {row["seed"]: row["dice"] for row in own}


def _three(values: dict[int, float], form: str = ".3f") -> list[str]:
    return [format(values[seed], form) for seed in (0, 1, 2)]


PLAIN = _dice("guide/rows.jsonl", "row", "plain")
NO_GUIDE, TEACHER, TINY = (
    _dice("pretrain/rows.jsonl", "name", name) for name in ("no guide", "teacher", "guidino-tiny")
)


@pytest.mark.parametrize("page", ["docs/guidino-tiny.md", "benchmarks/results/pretrain.md"])
def test_both_pages_say_that_the_rows_of_two_versions_differ(page: str) -> None:
    old, new = (f"{a}, {b} and {c}" for a, b, c in (_three(PLAIN), _three(NO_GUIDE)))
    assert old in _text(page)
    assert new in _text(page) or new.replace(" and", ",") in _text(page)


def test_the_model_card_has_the_measured_shares() -> None:
    card = _text("docs/guidino-tiny.md")
    for row in (NO_GUIDE, TEACHER, TINY):
        assert f"| {', '.join(_three(row))} |" in card
    shares = [(TINY[seed] - NO_GUIDE[seed]) / (TEACHER[seed] - NO_GUIDE[seed]) for seed in (0, 1, 2)]
    total = sum(TINY[seed] - NO_GUIDE[seed] for seed in (0, 1, 2)) / sum(
        TEACHER[seed] - NO_GUIDE[seed] for seed in (0, 1, 2)
    )
    first, second, third = (f"{100 * share:.0f}" for share in shares)
    assert f"| {100 * total:.0f} % ({first}, {second} and {third}) |" in card


def test_surface_distances_are_faster_by_the_geometric_mean_of_the_2d_pairs() -> None:
    page = (RESULTS / "evaluate.md").read_text(encoding="utf-8")
    first = page.partition("With other tools")[0]
    rows = re.findall(r"^\| (\w+) \d+x\d+ \| [\d.]+ \| ([\d.]+) \| ([\d.]+) \|", first, re.MULTILINE)
    assert len(rows) == 9
    compiled, numpy = (prod(float(row[column]) for row in rows) ** (1 / 9) for column in (1, 2))
    assert f"| **geometric mean of the nine 2-D pairs** | | **{compiled:.1f}** | **{numpy:.1f}** |" in page
    assert f"about {round(compiled, -1):.0f} times as fast as medpy" in _text("README.md")
    assert f"and {numpy:.0f} times with numpy alone" in _text("README.md")


def _evidence(row: str, data: str) -> str:
    """Cell of the README: mean Dice over seeds, and their number if it is not one."""
    found = list(_dice("evidence/rows.jsonl", "row", row, data=data).values())
    count = f" ({len(found)})" if len(found) > 1 else ""
    return f"{sum(found) / len(found):.3f}{count}" if found else "-"


@pytest.mark.parametrize("page", ["README.md", "benchmarks/results/evidence.md"])
def test_the_evidence_table_has_the_mean_of_every_row(page: str) -> None:
    sets = ("kvasir", "isic", "ddti", "dsb2018")
    names = {
        "plain": "no guide (`own-plain-unet`)",
        "gate": "gated (`own-gated-unet`)",
        "new": "in logit space (`own-unet`)",
    }
    for row, name in names.items():
        assert f"| {name} | {' | '.join(_evidence(row, data) for data in sets)} |" in _text(page)


def test_the_evidence_rows_are_of_the_whole_test_parts() -> None:
    rows = [json.loads(line) for line in (RESULTS / "evidence" / "rows.jsonl").read_text(encoding="utf-8").splitlines()]
    counts = {"kvasir": 113, "isic": 78, "ddti": 60, "dsb2018": 33}
    own = [row for row in rows if row["data"] in counts]
    assert own
    for row in own:
        assert len(row["cases"]) == counts[row["data"]]
        # Dice of cases is rounded to four digits.
        assert sum(row["cases"].values()) / len(row["cases"]) == pytest.approx(row["dice"], abs=1e-4)


def test_the_page_on_drift_has_the_measured_shares() -> None:
    rows = [json.loads(line) for line in (RESULTS / "drift" / "rows.jsonl").read_text(encoding="utf-8").splitlines()]
    pairs = dict.fromkeys((row["source"], row["new"]) for row in rows)
    shares = {}
    for pair in pairs:
        own = [row["p_value"] <= 0.05 for row in rows if (row["source"], row["new"]) == pair]
        shares[pair] = 100 * sum(own) / len(own)
        assert f"| {pair[0]} | {pair[1]} | {len(own)} | {shares[pair]:.1f} % |" in _text("benchmarks/results/drift.md")
    same = [share for pair, share in shares.items() if pair[1] == "the same source"]
    assert f"{min(same):.1f} to {max(same):.1f} % of the sets of the same source" in _text("docs/drift.md")
    assert max(same) <= 5
    assert {share for pair, share in shares.items() if pair[1] != "the same source"} == {100}
