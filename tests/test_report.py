"""The report: its input, damaged input, and its display in a browser."""

import dataclasses
import json
import re
import shutil
import subprocess
import sys

import numpy as np
import PIL.Image
import pytest
from places import GOLDEN, ROOT
from train_runs import one_thread

from dnnlib.util import UserError
from training.grids import save_png
from training.reporting import charts
from training.reporting.pictures import encode
from training.reporting.report import labels, write_report
from training.reporting.run_record import read_run, total_seconds
from training.run_dir import read_options, write_json


def statistics_record(kimg, seconds, **more):
    """A line of stats.jsonl as the training loop writes it."""
    means = {
        "Loss/G/loss": 1.5 + 1 / kimg, "Loss/D/loss": 1.2, "Loss/r1_penalty": 0.02, "Loss/scores/real": 0.7,
        "Loss/scores/fake": -1.1, "Loss/signs/real": 0.5, "Loss/signs/fake": -0.7, "Progress/tick": kimg / 4,
        "Progress/kimg": kimg, "Progress/augment": kimg / 1000, "Timing/total_sec": seconds,
        "Timing/sec_per_tick": 80.0, "Timing/sec_per_kimg": 20.0, "Timing/maintenance_sec": 2.0,
        "Resources/cpu_mem_gb": 0.6, **more,
    }  # fmt: skip
    return {**{name: {"num": 1, "mean": mean, "std": 0.0} for name, mean in means.items()}, "timestamp": 1.8e9}


def metric_record(metric, kimg, **results):
    snapshot = f"network-snapshot-{kimg:06d}.safetensors"
    return {
        "results": results, "metric": metric, "total_time": 3.0, "num_gpus": 1, "snapshot": snapshot,
        "snapshot_pkl": snapshot, "timestamp": 1.8e9,
    }  # fmt: skip


def write_lines(path, records):
    path.write_text("".join(json.dumps(record) + "\n" for record in records))


def make_run(run_dir, ticks=10, grids=4, adamix=False, fids=(90.0, 20.0, 25.0)):
    """A run directory with made-up numbers and pictures."""
    run_dir.mkdir(parents=True)
    terms = {"Loss/adamix/real": 0.01, "Loss/adamix/fake": 0.02, "Loss/sdp/k": 5.0} if adamix else {}
    write_lines(run_dir / "stats.jsonl", [statistics_record(4.0 * t, 82 * t, **terms) for t in range(1, ticks + 1)])
    loss = {"r1_gamma": 0.1, "terms": {"adamix": {"weight": 1} if adamix else None}}
    options = {"run": {"kimg": 40.0, "cfg": "demo"}, "loss": loss}
    (run_dir / "training_options.json").write_text(json.dumps(options))
    fid = [metric_record("fid50k_full", 12 * i, fid50k_full=value) for i, value in enumerate(fids, 1)]
    write_lines(run_dir / "metric-fid50k_full.jsonl", fid)
    pr = [metric_record("pr50k3_full", 12 * i, pr50k3_full_precision=0.1 * i) for i in (1, 2, 3)]
    write_lines(run_dir / "metric-pr50k3_full.jsonl", pr)
    for index, name in enumerate(["reals", "fakes_init", *(f"fakes{12 * i:06d}" for i in range(1, grids))]):
        save_png(run_dir / f"{name}.png", np.random.RandomState(index).randint(0, 255, [3, 64, 128], dtype=np.uint8))
    return run_dir


@pytest.fixture
def run_dir(tmp_path):
    return make_run(tmp_path / "00000-emoji-demo")


def page_of(*run_dirs):
    path = run_dirs[0].parent / "report.html"
    write_report(run_dirs, path)
    return path.read_text()


def command(*arguments):
    program = [sys.executable, ROOT / "report.py", *arguments]
    return subprocess.run(program, capture_output=True, text=True, env=one_thread())


# ---------------------------------------------------------------------- input


def test_a_run_is_read_completely(run_dir):
    run = read_run(run_dir, "run")
    assert run.kimg == 40 and run.seconds == 820 and run.images_per_second == 1000 / 20
    assert run.statistics["Loss/G/loss"][0] == (4, 1.75) and len(run.statistics["Loss/G/loss"]) == 10
    assert run.metrics["fid50k_full"] == ("fid50k_full", [(12, 90), (24, 20), (36, 25)])
    assert run.options["loss.r1_gamma"] == "0.1" and run.options["run.kimg"] == "40"
    assert run.notes == []


def test_the_best_value_is_the_smallest_distance_or_the_largest_score(run_dir):
    page = page_of(run_dir)
    assert "best 20 at 24 kimg" in page and "best 0.3 at 36 kimg" in page


def test_the_best_of_all_runs_is_marked_once(run_dir):
    other = make_run(run_dir.parent / "00001-emoji-demo-adamix", adamix=True, fids=(80, 15, 30))
    bold = re.findall(r'<td class="wins">([\d.]+)', page_of(run_dir, other))
    assert bold[0] == "15"


def test_only_distances_are_drawn_on_a_logarithmic_axis(run_dir):
    scores = [metric_record("is50k", kimg, is50k_mean=value, is50k_std=0.1) for kimg, value in ((12, 1), (24, 30))]
    write_lines(run_dir / "metric-is50k.jsonl", scores)
    write_lines(run_dir / "metric-fid50k_full.jsonl", [metric_record("fid50k_full", k, fid50k_full=k) for k in (9, 99)])
    assert re.findall(r"<figcaption>(\w+) <small>logarithmic", page_of(run_dir)) == ["fid50k_full"]


def test_options_that_differ_are_shown_before_those_that_do_not(run_dir):
    other = make_run(run_dir.parent / "00001-emoji-demo-adamix", adamix=True)
    differing, same = page_of(run_dir, other).split("<details>")
    assert "loss.terms.adamix.weight" in differing and "loss.r1_gamma" not in differing and "loss.r1_gamma" in same


def test_options_of_an_old_run_have_the_names_of_a_new_run(run_dir):
    """Version 0.1 wrote them without groups."""
    old = GOLDEN / "old_run"
    shutil.copy(old / "training_options.json", run_dir)
    before = read_run(run_dir, "old").options
    write_json(run_dir / "training_options.json", dataclasses.asdict(read_options(old)))
    now = read_run(run_dir, "new").options
    assert {name: now[name] for name in before} == before and before["loss.terms.sdp.grow_kimg"] == "5"


def test_every_term_has_its_curves(run_dir):
    other = make_run(run_dir.parent / "00001-emoji-demo-adamix", adamix=True)
    page = page_of(run_dir, other)
    titles = re.findall(r"<figcaption>([\w/]+)", page)
    assert {"Loss/adamix", "Loss/sdp/k", "Loss/scores", "Progress/augment", "Timing/sec_per_kimg"} <= set(titles)


def test_samples_are_shown_with_their_nearest_training_images(run_dir):
    about = {"kimg": 36, "samples": 12.5, "reference": 14.25, "of": "held-out images", "count": 64, "shown": [9.5, 10]}
    (run_dir / "nearest.json").write_text(json.dumps(about))
    save_png(run_dir / "nearest.png", np.zeros([3, 16, 16], np.uint8))
    page = " ".join(page_of(run_dir).split())
    assert "12.5 for 64 samples, 14.25 for held-out images." in page and "Distances: 9.5, 10." in page
    (run_dir / "nearest.json").write_text("{")
    page = page_of(run_dir)
    assert 'id="nearest"' not in page and "nearest.json cannot be read" in page


def test_warnings_are_shown_before_everything_else(run_dir):
    write_lines(run_dir / "warnings.jsonl", [{"kimg": 8, "warning": "at 8 kimg something is < wrong"}])
    page = page_of(run_dir)
    assert page.index("at 8 kimg something is &lt; wrong") < page.index('id="metrics"')


def test_the_page_needs_no_network(run_dir):
    page = page_of(run_dir)
    assert not re.search(r"https?://|@import|<link rel=.stylesheet|<script src", page)


def test_the_time_of_a_resumed_run_is_the_sum_of_its_parts():
    assert total_seconds([{"Timing/total_sec": seconds} for seconds in (10, 20, 5, 15)]) == 35


def test_of_two_values_at_one_kimg_the_last_counts(run_dir):
    with open(run_dir / "stats.jsonl", "a") as file:
        file.write(json.dumps(statistics_record(8.0, 900, **{"Loss/D/loss": 9.0})) + "\n")
    points = read_run(run_dir, "run").statistics["Loss/D/loss"]
    assert len(points) == 10 and points[1] == (8, 9)


def test_at_most_sixteen_grids_with_the_first_and_the_last(tmp_path):
    page = page_of(make_run(tmp_path / "run", grids=60))
    kimgs = [int(kimg) for kimg in re.findall(r'class="image-grid" data-kimg="(\d+)"', page)]
    assert len(kimgs) == 16 and kimgs[0] == 0 and kimgs[-1] == 59 * 12 and kimgs == sorted(kimgs)


def test_a_large_grid_is_reduced_to_fit(tmp_path):
    noise = np.random.RandomState(0).randint(0, 255, [3, 1500, 1500], dtype=np.uint8)  # compresses worst
    save_png(tmp_path / "fakes000001.png", noise)
    picture, width, height = encode(tmp_path / "fakes000001.png", 60_000, [])
    assert len(picture) < 81_000 and width == height < 1024
    assert encode(tmp_path / "fakes000001.png", 5_000_000, [])[1] == 1024


def test_only_png_files_are_decoded(tmp_path):
    """Pillow starts another program for some formats, whatever a file's name."""
    PIL.Image.new("RGB", (8, 8)).save(tmp_path / "fakes000001.png", format="jpeg")
    notes = []
    assert encode(tmp_path / "fakes000001.png", 60_000, notes) is None
    assert notes == ["fakes000001.png cannot be read (UnidentifiedImageError)"]


def test_the_size_of_all_pictures_together_is_limited(run_dir, monkeypatch):
    monkeypatch.setattr("training.reporting.pictures.IMAGE_BYTES", 400_000)
    for path in run_dir.glob("*.png"):
        save_png(path, np.random.RandomState(0).randint(0, 255, [3, 300, 300], dtype=np.uint8))
    others = [shutil.copytree(run_dir, run_dir.parent / f"{index:05d}-other") for index in (1, 2, 3)]
    pictures = re.findall(r"data:image/webp;base64,[\w+/=]+", page_of(run_dir, *others))
    assert len(pictures) == 17 and sum(map(len, pictures)) < 400_000 * 4 / 3


def test_labels_distinguish_runs(tmp_path):
    a, b, c = (tmp_path / name for name in ("one/00000-x", "two/00000-x", "one/00001-x"))
    assert labels([a, b, c]) == ["one/00000-x", "two/00000-x", "00001-x"]


def test_a_run_that_is_given_twice_is_shown_once(run_dir):
    assert page_of(run_dir, run_dir).count("<tr data-run") == 3  # of the run and of its two metrics


# ---------------------------------------------------------------------- charts


@pytest.mark.parametrize("low, high", [(0, 1), (-3, 7), (0.998, 1.001), (1e-9, 3e-9), (-1e30, 1e99), (2e5, 9e5)])
def test_ticks_are_few_and_cover_the_range(low, high):
    ticks = charts.ticks(low, high)
    assert ticks[0] <= low + 1e-9 * abs(high) and ticks[-1] >= high - 1e-9 * abs(high) and 2 <= len(ticks) <= 7


@pytest.mark.parametrize("low, high", [(12, 300), (0.5, 5), (1e-5, 400), (1, 1e90)])
def test_logarithmic_ticks_are_few_and_cover_the_range(low, high):
    ticks = charts.log_ticks(low, high)
    assert ticks[0] <= low and ticks[-1] >= high and 2 <= len(ticks) <= 12


@pytest.mark.parametrize("values", [[0, 0], [5], [-2, 1e50], [1e-300, 1], [3, 3 + 1e-12]])
@pytest.mark.parametrize("draw", [charts.chart, charts.log_chart])
def test_curves_stay_in_the_frame(draw, values):
    points = list(enumerate(values))
    drawn = draw("title", [{"run": 0, "points": points, "best": points[-1]}], x_max=len(values))
    numbers = re.findall(r"-?[\d.]+,-?[\d.]+", drawn["curves"][0]["path"])
    for x, y in (map(float, number.split(",")) for number in numbers):
        assert charts.LEFT <= x <= charts.RIGHT and charts.TOP - 0.1 <= y <= charts.BOTTOM + 0.1


def test_a_long_curve_is_thinned_to_means():
    points = charts.thin([(i, i % 2) for i in range(4000)], limit=400)
    assert len(points) == 400 and all(value == 0.5 for _, value in points) and points[-1][0] == 3999


def test_numbers_are_written_short():
    assert [charts.figure(v) for v in (0, 3.14159, 25000, 0.00012, -2e9)] == ["0", "3.142", "25000", "1.2e-4", "-2e9"]


# ---------------------------------------------------------------------- damaged input


def test_damaged_lines_are_left_out_and_counted(run_dir):
    with open(run_dir / "stats.jsonl", "a") as file:
        file.write('{"Loss/G/lo\n[1]\n{"a": 3}\n{"Progress/kimg": {"mean": "x"}}\n{"Progress/kimg": {"mean": NaN}}\n')
        file.write("[" * 100000 + "\n" + '{"Progress/kimg": {"mean": 44.0}, "Loss/G/loss": {"mean": Infinity}}\n')
    with open(run_dir / "metric-fid50k_full.jsonl", "ab") as file:
        file.write(b'\xff\xfe\n{"metric": "fid50k_full", "results": {"fid50k_full": 3}, "snapshot": null}\n')
    page = page_of(run_dir)
    assert "stats.jsonl: 6 damaged lines left out" in page and "metric-fid50k_full.jsonl: 2 damaged lines" in page


def test_a_run_of_stylegan3_has_a_report(run_dir):
    """Its options have other names, but its statistics have the same."""
    options = {"kimg_per_tick": 4, "total_kimg": 25000, "batch_size": 32, "loss_kwargs": {"r1_gamma": 8.25}}
    write_json(run_dir / "training_options.json", options)
    assert "8.25" in page_of(run_dir)


def test_missing_and_damaged_files_are_named_on_the_page(run_dir):
    for path in [run_dir / "training_options.json", run_dir / "reals.png", *run_dir.glob("metric-*")]:
        path.unlink()
    (run_dir / "fakes000012.png").write_bytes(b"\x89PNG\r\n")
    (run_dir / "fakes-mine.png").write_bytes(b"")
    page = page_of(run_dir)
    assert "training_options.json cannot be read" in page and "fakes000012.png cannot be read" in page
    for path in run_dir.glob("fakes*"):
        path.unlink()
    assert "<h2>Images" not in page_of(run_dir)


@pytest.mark.parametrize("number", [5e-324, -1e-310, 1e-99, 1e99, -1e300, float("inf"), float("nan")])
def test_extreme_numbers_do_not_break_the_page(run_dir, number):
    """Beside usual numbers, alone, and in every file that the page reads."""
    usual, odd = statistics_record(4.0, 82), statistics_record(8.0, 164)
    odd |= {name: {"num": 1, "mean": number, "std": 0.0} for name in odd if name != "Progress/kimg" and "/" in name}
    write_lines(run_dir / "metric-fid50k_full.jsonl", [metric_record("fid50k_full", 8, fid50k_full=number)])
    write_lines(run_dir / "warnings.jsonl", [{"kimg": number, "warning": "w"}, {"kimg": 1, "warning": "usual"}])
    shutil.copy(run_dir / "reals.png", run_dir / "nearest.png")
    about = {"kimg": 8, "samples": number, "reference": number, "of": "x", "count": 2, "shown": [number, 1.0]}
    (run_dir / "nearest.json").write_text(json.dumps(about))
    for records in ([usual, odd], [odd, usual], [odd]):
        write_lines(run_dir / "stats.jsonl", records)
        assert "usual" in page_of(run_dir)


def test_names_cannot_break_the_page(tmp_path):
    hostile = """<script>alert('1')"&amp;"""
    run = make_run(tmp_path / hostile.replace("/", "_"))
    (run / "training_options.json").write_text(json.dumps({hostile: {"\ud800": hostile}}))
    write_lines(run / "stats.jsonl", [statistics_record(4.0, 9, **{f"Loss/{hostile}": 1.0})])
    write_lines(run / "metric-x.jsonl", [metric_record(hostile, 4, **{hostile: 1.0})])
    page = page_of(run)
    assert page.count("<script>") == 1 and "&lt;script&gt;alert(" in page


def test_an_unknown_metric_has_no_best_value(run_dir):
    write_lines(run_dir / "metric-beauty.jsonl", [metric_record("beauty", kimg, beauty=kimg) for kimg in (1, 2)])
    page = page_of(run_dir)
    assert "beauty" in page and page.count("<circle") == 2


def test_a_directory_without_statistics_is_refused(tmp_path):
    with pytest.raises(UserError, match="holds no statistics"):
        write_report([tmp_path], tmp_path / "report.html")
    assert list(tmp_path.iterdir()) == []


def test_the_command_writes_a_page(run_dir):
    path = run_dir.parent / "page.html"
    result = command(run_dir, "-o", path)
    assert (result.returncode, result.stderr) == (0, "") and path.read_text().startswith("<!DOCTYPE html>")


def test_errors_of_the_command_are_one_line(run_dir, tmp_path):
    nowhere = tmp_path / "none" / "report.html"
    for arguments, reason in (
        ([run_dir, "-o", nowhere], "cannot write"),
        ([run_dir, "-o", tmp_path], "is a directory"),
        ([tmp_path / "nothing"], "is not a directory"),
        ([], "Missing argument"),
    ):
        result = command(*arguments)
        assert result.returncode == 2 and reason in result.stderr and result.stderr.count("\n") == 1


# ---------------------------------------------------------------------- in a browser


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The address of a page about two runs with long names."""
    outdir = tmp_path_factory.mktemp("runs")
    runs = [
        make_run(outdir / "00000-twemoji-paper256-mirror-subset1000"),
        make_run(
            outdir / "00001-twemoji-paper256-mirror-subset1000-adamix-sdp-aw-lecam0.3", ticks=20, grids=6, adamix=True
        ),
    ]
    write_report(runs, outdir / "report.html")
    return (outdir / "report.html").as_uri()


@pytest.fixture
def opened(browser, page):
    """The page, just loaded, at the width of a laptop."""
    resize(browser, 1280)
    browser.get(page)
    return browser


def resize(browser, width, media="screen"):
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": media})


def visible(browser, selector):
    return [element for element in browser.find_elements("css selector", selector) if element.is_displayed()]


def shown_kimgs(browser):
    return [int(grid.get_attribute("data-kimg")) for grid in visible(browser, ".image-grid")]


def test_the_page_loads_without_errors(opened):
    assert opened.find_element("css selector", "h1").text == "2 runs"
    assert opened.get_log("browser") == []
    loaded = "return [...document.images].every(image => image.complete && image.naturalWidth > 0)"
    assert opened.execute_script(loaded)


def test_curves_of_every_run_are_drawn(opened):
    for run in "01":
        curves = visible(opened, f'#metrics [data-run="{run}"] .curve')
        assert len(curves) == 2
        assert all(opened.execute_script("return arguments[0].getTotalLength()", curve) > 50 for curve in curves)
    assert len(visible(opened, "#metrics circle")) == 4


def test_the_slider_moves_the_picture(opened):
    slider = visible(opened, "input[type=range]")[1]
    opened.find_element("css selector", "#together").click()
    assert shown_kimgs(opened) == [36, 60]
    before = visible(opened, ".image-grid img")[1].get_attribute("src")
    slider.send_keys("\ue012")  # the left arrow
    assert shown_kimgs(opened) == [36, 48]
    assert visible(opened, ".image-grid img")[1].get_attribute("src") != before
    slider.send_keys("\ue011")  # home
    assert shown_kimgs(opened) == [36, 0]


def test_sliders_move_together_to_the_nearest_kimg(opened):
    slider = visible(opened, "input[type=range]")[1]
    slider.send_keys("\ue012")
    assert shown_kimgs(opened) == [36, 48]
    slider.send_keys("\ue012", "\ue012")
    assert shown_kimgs(opened) == [24, 24]


def test_the_pointer_shows_the_values_of_a_chart(opened):
    from selenium.webdriver import ActionChains

    chart = opened.find_element("css selector", "#metrics .chart svg")
    ActionChains(opened).move_to_element_with_offset(chart, 40, 0).perform()
    middle = visible(opened, ".read-out")[0].text.splitlines()
    ActionChains(opened).move_to_element_with_offset(chart, -40, 0).perform()
    assert [middle, visible(opened, ".read-out")[0].text.splitlines()] == [
        ["36 kimg", "25", "25"],
        ["24 kimg", "20", "20"],
    ]
    ActionChains(opened).move_to_element(opened.find_element("css selector", "h1")).perform()
    assert visible(opened, ".read-out") == []


def test_a_chart_shows_no_value_beyond_the_end_of_a_run(opened):
    from selenium.webdriver import ActionChains

    chart = next(c for c in visible(opened, ".chart") if c.text.startswith("Loss/D/loss"))
    opened.execute_script("arguments[0].scrollIntoView({block: 'center'})", chart)
    svg = chart.find_element("css selector", "svg")
    ActionChains(opened).move_to_element_with_offset(svg, svg.size["width"] // 2 - 10, 0).perform()
    assert visible(opened, ".read-out")[0].text.splitlines() == ["80 kimg", "1.2"]


def test_the_legend_hides_a_run(opened):
    opened.find_element("css selector", '[data-show="0"]').click()
    assert visible(opened, '[data-run="0"]') == [] and visible(opened, '[data-run="1"]')


@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_scrolls_horizontally(opened, width):
    resize(opened, width)
    assert opened.execute_script("return document.documentElement.scrollWidth") <= width
    tables = "return [...document.querySelectorAll('#runs, #metrics table')].map(t => t.getBoundingClientRect().right)"
    assert max(opened.execute_script(tables)) <= width


def test_a_printout_shows_the_last_grids_and_no_sliders(opened):
    visible(opened, "input[type=range]")[0].send_keys("\ue011")
    resize(opened, 700, media="print")
    assert shown_kimgs(opened) == [36, 60] and visible(opened, "input") == []
