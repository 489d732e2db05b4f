"""The report of the mini set with fabricated estimates: complete, self-contained, and usable in a browser."""

import base64
import json
import re
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest

from picopose.evaluation.after_run import score_run
from picopose.evaluation.scoring import Scores
from picopose.pipeline.tested_set import TestedSet
from tests.contrast import colours, contrast, luminance
from tests.fabricated import SIZE, fabricate
from tests.shared import ROOT

VOID = {"meta", "br", "input", "link", "img", "hr"}
WORDS = "good", "doubtful", "wrong"
CONFIG = "checkpoint: </pre><script>alert(1)</script>\nlog_dir: a&b"


@dataclass(frozen=True)
class Example:
    folder: Path
    tested: TestedSet
    scores: Scores

    @property
    def page(self) -> Path:
        return self.folder / "report.html"


@pytest.fixture(scope="module")
def example(tmp_path_factory) -> Example:
    folder = tmp_path_factory.mktemp("run")
    tested = fabricate(ROOT / "data", "mini", folder)
    scores = score_run([tested], folder, config=CONFIG, template_size=SIZE, required=True)
    return Example(folder, tested, scores["mini"])


class Page(HTMLParser):
    """All elements with their attributes; fails on tags that do not nest."""

    def __init__(self, text: str):
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.open: list[str] = []
        self.text: dict[str, str] = {}  # by tag, joined
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        assert len({name for name, _ in attributes}) == len(attributes)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open:
            self.text[self.open[-1]] = self.text.get(self.open[-1], "") + data

    def all(self, tag: str, **attributes: str) -> list[dict[str, str]]:
        return [a for t, a in self.elements if t == tag and attributes.items() <= a.items()]

    def cases(self) -> list[dict[str, str]]:
        return [a for a in self.all("li") if a.get("class") == "case"]


@pytest.fixture(scope="module")
def page(example) -> Page:
    return Page(example.page.read_text(encoding="utf-8"))


def test_every_target_is_there(example, page):
    targets = json.loads(example.tested.targets.read_text())
    cases = page.cases()
    assert len(cases) == sum(target["inst_count"] for target in targets)
    wanted = sorted(str(t["obj_id"]) for t in targets for _ in range(t["inst_count"]))
    assert sorted(case["data-object"] for case in cases) == wanted
    lines = len(example.tested.csv.read_text().splitlines()) - 1
    assert [case["data-missing"] for case in cases].count("no") == lines
    assert lines < len(cases)


def test_nothing_is_loaded_from_elsewhere(example, page):
    text = example.page.read_text(encoding="utf-8")
    assert not re.search(r"https?:|@import|url\(", text)
    links = [
        v for _, a in page.elements for k, v in a.items() if k in ("src", "href", "xlink:href", "srcset")
    ]
    assert links and all(link.startswith(("data:image/jpeg;base64,", "#")) for link in links)
    anchors = {a["id"] for _, a in page.elements if "id" in a}
    assert {link[1:] for link in links if link.startswith("#")} <= anchors
    assert page.all("link") == page.all("iframe") == page.all("img") == []


def test_pictures_are_small_and_readable(example, page):
    uris = [a["href"] for a in page.all("image")]
    assert len(uris) >= 2 * len(page.all("li", **{"class": "case", "data-missing": "no"}))
    for uri in uris:
        content = np.frombuffer(base64.b64decode(uri.split(",", 1)[1]), np.uint8)
        assert max(cv2.imdecode(content, cv2.IMREAD_COLOR).shape) <= 320
    assert example.page.stat().st_size < 4e6


def test_the_config_is_shown_and_not_run(page):
    assert page.text["pre"] == CONFIG
    assert len(page.all("script")) == 1
    assert "alert" not in page.text["script"]


def test_a_match_has_one_colour(example, page):
    details = json.loads(example.tested.csv.with_suffix(".json").read_text())
    circles = page.all("circle")
    assert len(circles) == 2 * sum(len(entry["matches"]) for entry in details)
    # In order: the photo's points of a case, then as many of its template.
    start = 0
    for entry in details:
        count = len(entry["matches"])
        photo, template = circles[start : start + count], circles[start + count : start + 2 * count]
        assert [c["fill"] for c in photo] == [c["fill"] for c in template]
        assert len({c["fill"] for c in photo}) > count / 2
        start += 2 * count


def test_scores_are_those_of_the_file(example, page):
    written = json.loads((example.folder / "scores.json").read_text())["mini"]
    assert written["bop19_average_recall"] == example.scores.summary["bop19_average_recall"]
    labels = {a["aria-label"] for a in page.all("span") if a.get("role") == "img"}
    assert f"AR: {100 * written['bop19_average_recall']:.1f} %" in labels
    for obj_id, values in written["objects"].items():
        assert f"AR of object {obj_id}: {100 * values['mean']:.1f} %" in labels
    curves = page.all("polyline")
    assert len(curves) == 3
    for curve, error in zip(curves, ("vsd", "mssd", "mspd"), strict=True):
        points = np.array([point.split(",") for point in curve["points"].split()], float)
        recalls = np.atleast_2d(written["recalls"][error]).mean(axis=0)
        assert np.abs((160 - points[:, 1]) / 150 - recalls).max() < 1e-3
    assert "detection" in page.text["li"] and "poses" in page.text["li"]


def test_linemods_table_has_every_object_by_name_and_their_mean(example):
    text = example.page.read_text(encoding="utf-8")
    (section,) = re.findall(r'<section id="linemod".*?</section>', text, re.DOTALL)
    rows = [re.findall(r"<t[hd][^>]*>([^<]*)<", row) for row in re.findall(r"<tr>(.*?)</tr>", section)]
    assert rows[0] == ["object", "targets", "ADD(-S) .1d", ".05d", ".02d", "2D 5px", "5cm 5deg"]
    infos = json.loads((example.tested.dataset_dir / "models_eval" / "models_info.json").read_text())
    assert [row[0] for row in rows[1:-1]] == [info["name"] for info in infos.values()]
    measures = json.loads((example.folder / "scores.json").read_text())["mini"]["measures"]
    names = ("add_s_10", "add_s_05", "add_s_02", "projection_5px", "cm5_deg5")
    for row, key in zip(rows[1:], [*infos, "mean of objects"], strict=True):
        assert row[2:] == [f"{100 * measures[key][name]:.1f}" for name in names]
        assert row[1] == f"{measures[key]['targets']:.0f}"


def test_each_pose_says_how_sure_it_is(example, page):
    """The side file has the numbers; the words' bounds are 75 % and 25 %."""
    expected = {}
    for entry in json.loads(example.tested.csv.with_suffix(".json").read_text()):
        sure = entry["confidence"]
        word = "good" if sure >= 0.75 else "wrong" if sure < 0.25 else "doubtful"
        expected.setdefault(str(entry["obj_id"]), []).append((str(sure), word))
    told = {}
    for case in page.cases():
        if case["data-missing"] == "no":
            told.setdefault(case["data-object"], []).append((case["data-confidence"], case["data-verdict"]))
        else:
            assert (case["data-confidence"], case["data-verdict"]) == ("-Infinity", "")
    assert {key: sorted(value) for key, value in told.items()} == {
        key: sorted(value) for key, value in expected.items()
    }
    words = [word for values in expected.values() for _, word in values]
    assert set(words) == set(WORDS)
    assert sorted(a["data-verdict"] for a in page.all("b") if "data-verdict" in a) == sorted(words)


def shown(browser) -> list[dict[str, str]]:
    """What the cases that can be seen say of themselves, in their order on the page."""
    script = (
        "return [...document.querySelectorAll('.case')].filter(c => !c.hidden).map(c => ({...c.dataset}))"
    )
    return browser.execute_script(script)


def click(browser, selector: str) -> None:
    browser.find_element("css selector", selector).click()


def test_the_worst_case_is_one_click_away(browser, example):
    browser.get(example.page.as_uri())
    pairs = example.scores.pairs
    before = shown(browser)
    missing = [case for case in before if case["missing"] == "yes"]
    assert before[0]["missing"] == "no" and missing

    click(browser, "[data-sort=mssd]")
    after = shown(browser)
    assert len(after) == len(before) and after != before
    # First what was not found at all, then the pose with the largest error of all.
    assert [case["missing"] for case in after[: len(missing) + 1]] == ["yes"] * len(missing) + ["no"]
    infos = json.loads((example.tested.dataset_dir / "models_eval" / "models_info.json").read_text())
    diameters = [1e-3 * infos[str(key)]["diameter"] for key in pairs.obj_id.tolist()]
    single = [case for case in after if case["missing"] == "no"]
    shares = [float(case["mssd"]) for case in single]
    assert shares == sorted(shares, reverse=True)
    # Objects of one instance have one pair each, so their pairs' errors are those of the cases.
    once = np.unique(
        np.stack([pairs.scene_id, pairs.im_id, pairs.obj_id], axis=1), axis=0, return_counts=True
    )
    alone = {tuple(key) for key, count in zip(once[0].tolist(), once[1], strict=True) if count == 1}
    keys = zip(pairs.scene_id.tolist(), pairs.im_id.tolist(), pairs.obj_id.tolist(), strict=True)
    picked = [key in alone for key in keys]
    worst = (pairs.mssd / diameters)[picked].max()
    assert shares[0] >= worst and min(abs(share - worst) for share in shares) < 1e-9

    click(browser, "[data-sort=mssd]")
    assert [float(c["mssd"]) for c in shown(browser)] == sorted(float(c["mssd"]) for c in after)
    click(browser, "[data-sort=inliers]")
    ratios = [float(case["inliers"]) for case in shown(browser)]
    assert ratios == sorted(ratios)
    assert browser.find_element("css selector", "[data-sort=inliers]").get_attribute("aria-pressed") == "true"
    click(browser, "[data-sort=confidence]")
    confidences = [float(case["confidence"]) for case in shown(browser)]
    assert confidences == sorted(confidences) != ratios
    assert browser.get_log("browser") == []


def test_filters_layers_and_enlarging(browser, example):
    browser.get(example.page.as_uri())
    before = shown(browser)
    click(browser, "[data-filter=object] option:nth-child(3)")
    some = shown(browser)
    assert len({case["object"] for case in some}) == 1 and 0 < len(some) < len(before)
    assert str(len(some)) in browser.find_element("id", "status").text
    click(browser, "[data-filter=object] option:first-child")
    counts = []
    for number, word in enumerate(WORDS, start=2):
        click(browser, f"[data-filter=verdict] option:nth-child({number})")
        assert {case["verdict"] for case in shown(browser)} == {word}
        counts.append(len(shown(browser)))
    assert sum(counts) + sum(case["missing"] == "yes" for case in before) == len(before)
    click(browser, "[data-filter=verdict] option:first-child")
    point = browser.find_element("css selector", ".case:not([hidden]) circle")
    assert point.is_displayed()
    click(browser, "[data-layer=points]")
    assert not point.is_displayed()
    dialog = browser.find_element("id", "enlarged")
    assert not dialog.is_displayed()
    browser.find_element("css selector", ".case:not([hidden]) .pictures").send_keys("\n")  # by the keyboard
    assert dialog.is_displayed() and dialog.find_elements("css selector", "svg.photo image")
    click(browser, "#enlarged button")
    assert not dialog.is_displayed()


def test_it_fits_a_phone_and_a_dark_room(browser, example):
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": 360, "height": 780, "deviceScaleFactor": 1, "mobile": True},
    )
    backgrounds = {}
    for scheme in ("light", "dark"):
        feature = {"name": "prefers-color-scheme", "value": scheme}
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
        browser.get(example.page.as_uri())
        assert browser.execute_script("return document.documentElement.scrollWidth") <= 360
        verdicts = [f"b[data-verdict={word}]" for word in WORDS]
        assert len({colours(browser, selector)[0] for selector in verdicts}) == len(WORDS)
        plain = ("body", "header p", "dt", "figcaption", "a", ".tools button[aria-pressed=true]")
        for selector in (*plain, *verdicts):
            text, ground = colours(browser, selector)
            assert contrast(text, ground) >= 4.5, (scheme, selector)
        backgrounds[scheme] = luminance(colours(browser, "body")[1])
    assert backgrounds["dark"] < 0.05 and backgrounds["light"] > 0.8
