"""The report on memorization: its verdict on sweeps whose law is known, its page as a reader without eyes, a mouse, a network or a wide screen meets it."""

import base64
import itertools
import json
import math
import random
import re
from html.parser import HTMLParser

import chromium
import numpy as np
import pytest
from records import BITS, record, sweep
from typer.testing import CliRunner

from hopfield_amem.analysis import take
from hopfield_amem.analysis.capacity import linear_memory_capacity
from hopfield_amem.analysis.memorization import Memorization, Training, UniformTokens, presets
from hopfield_amem.analysis.memorization.reporting.bounds import ATTENTION, FEED_FORWARD, MATRICES, attainable, bounds_of, short
from hopfield_amem.analysis.memorization.reporting.report import report, summarise
from hopfield_amem.analysis.memorization.reporting.rules import BINDINGS, Rules, still_falling
from hopfield_amem.cli import app

HOSTILE = "<script>alert(1)</script> & $x"


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The page of a sweep over two sizes, and of one whose name is hostile."""
    return report(sweep((8, 16)) + sweep((8, 16), (64, 4096), (0,), data=HOSTILE, curve=[]), tmp_path_factory.mktemp("report"))


# the verdict


@pytest.mark.parametrize("alpha", [0.5, 2.0, 3.5])
def test_the_bound_that_binds_is_the_one_that_was_set(alpha):
    found = summarise(sweep(alpha=alpha))
    (study,) = found.studies
    assert study.capacity is not None and study.capacity.value == pytest.approx(alpha * 1.005, rel=1e-9)  # seeds 0 and 1 hold α and 1.01 α
    for size in study.sizes:
        whole = [min(point.attainable, alpha * size.parameters * 1.005) >= 0.9 * point.attainable for point in size.points]
        beyond = "capacity" if any(whole) else "training"  # where nothing was memorised whole, nothing shows that training sufficed
        assert [point.binds for point in size.points] == ["data" if all_of_it else beyond for all_of_it in whole]
    told = " ".join(found.verdict()[study.name])
    assert f"Measured capacity: {alpha * 1.005:.2f} bits per parameter" in told and all(size.name in told for size in study.sizes)


def test_where_the_binding_bound_changes_is_said_with_its_numbers():
    (study,) = summarise(sweep()).studies
    loads = {binds: [p.data_bits / s.parameters for s in study.sizes for p in s.points if p.binds == binds] for binds in ("data", "capacity")}
    first = summarise(sweep()).verdict()[study.name][0]
    assert first == f"In bits of data per parameter: the data bind up to {max(loads['data']):.3g}; the capacity binds from " + (
        f"{min(loads['capacity']):.3g} to {max(loads['capacity']):.3g}."
    )


def test_runs_cut_short_are_undertrained():
    cut = [record(16, 4096, seed, finished=False) for seed in (0, 1)]
    (study,) = summarise([r for r in sweep((16,)) if r["examples"] < 4096] + cut).studies
    assert [point.binds for point in study.sizes[0].points][-2:] == ["capacity", "training"]
    assert "still falling" in summarise(cut).verdict()[study.name][-1]


def test_a_training_that_memorised_nothing_whole_is_not_taken_for_a_capacity():
    (study,) = summarise(sweep((16,), (256, 1024, 4096), alpha=0.2)).studies
    told = " ".join(summarise(sweep((16,), (256, 1024, 4096), alpha=0.2)).verdict()[study.name])
    assert {point.binds for point in study.sizes[0].points} == {"training"} and not study.settled
    assert "No plateau is visible: 0.20 bits per parameter" in told and "memorised no amount of data whole" in told and "Measured capacity" not in told


def test_what_held_more_of_other_data_was_undertrained_or_generalised():
    half = [r | {"memorised bits": r["memorised bits"] / 2} for r in sweep((16,), (4096,))]
    rest = sweep((16,), (16, 64, 256, 1024))
    assert summarise(rest + half).studies[0].sizes[0].points[-1].binds == "training"
    learned = [r | {"training loss": 1.0, "validation loss": 1.05} for r in half]  # the uniform law has log 32 = 3.47
    assert summarise(rest + learned).studies[0].sizes[0].points[-1].binds == "structure"
    unseen = [r | {"training loss": 1.0, "validation loss": 3.4} for r in half]
    assert summarise(rest + unseen).studies[0].sizes[0].points[-1].binds == "training"


def test_text_is_generalised_where_its_models_learned_what_is_common():
    """Bytes have no vocabulary that was asked for: the symbols of the model tell the uniform law. Of text the plateau of chance is no capacity."""
    text = {"data": "text", "vocabulary": None, "symbols": 257, "reference model": True}
    rest = [run | text | {"membership": {"AUROC": 1.0}} for run in sweep((16,), (16, 64, 256))]
    most = max(run["memorised bits"] for run in rest)
    common = text | {"memorised bits": most, "training loss": 2.0, "validation loss": 2.1, "membership": {"AUROC": 0.53}}
    last = lambda **other: summarise(rest + [run | common | other for run in sweep((16,), (4096,))]).studies[0].sizes[0].points[-1].binds
    assert last() == "structure"
    assert last(symbols=None) == "training" and last(**{"validation loss": 5.4}) == "training"  # chance, and nothing common was learned
    assert last(**{"validation loss": 5.4, "membership": {"AUROC": 0.9}}) == "capacity"
    assert bounds_of(record(8, 16) | text)[FEED_FORWARD] == 8 * 32 * math.log2(257)


def test_as_many_rows_as_there_are(tmp_path):
    """Sixteen rows of four bits are all that there are: what can be memorised of them is no longer their number times what each could be."""
    all_of_them = record(8, 16) | {"length": 2, "vocabulary": 4, "data bits": 64.0, "memorised bits": 8.0}
    (point,) = summarise([all_of_them]).studies[0].sizes[0].points
    assert point.attainable == pytest.approx(16 / math.e * math.log2(math.e)) and point.share == pytest.approx(8 / point.attainable)


def test_both_shares_have_names():
    row = summarise([record(512, 1024)]).rows()[0]
    assert row["share of the data"] == pytest.approx(0.875) and row["share of what can be memorised"] == 1
    assert "of what can be memorised" in Rules().sentences()[0]


def test_a_sweep_that_never_filled_its_models_has_no_capacity():
    found = summarise(sweep((32,), (16, 64)))
    told = " ".join(found.verdict()["uniform, softmax, gelu"])
    assert found.studies[0].capacity is None and "No capacity was reached" in told and "bits per parameter," not in told
    assert "not reached" in json.dumps(found.to_json(), ensure_ascii=False)


def test_parameters_are_balanced_against_the_data_that_fill_them_where_no_size_is_best():
    found = summarise(sweep((8, 16, 32), (16, 64, 256, 512)))
    balance = found.studies[0].balance
    assert found.studies[0].balanced == "data that fill the model" and balance is not None
    assert list(balance.data) == pytest.approx([2.01 * n / math.log2(32) for n in balance.parameters])  # 1.005 · 2 bits a parameter, 5 a token
    larger = summarise(sweep((8, 16, 32), (16, 64, 256, 4096, 16384))).studies[0]
    assert larger.balanced == "best data size D*" and larger.balance is not None and larger.balance.parameters[0] == record(8, 16)["parameters"]


def test_what_can_be_memorised_of_uniform_rows_is_less_than_their_bits():
    asked = record(8, 1024)
    assert attainable(asked) == 1024 * (BITS - 10) and attainable(asked | {"data": "text"}) == asked["data bits"]
    (study,) = summarise([record(512, 1024)]).studies  # holds all that can be held: 87.5 % of its bits
    assert study.sizes[0].points[0].binds == "data" and study.sizes[0].points[0].memorised / asked["data bits"] == pytest.approx(0.875)


def test_bounds_are_those_of_the_parts():
    asked = {"layers": 2, "width": 64, "vocabulary": 32, "parameters": 1e5, "parameters attention": 1, "parameters feed-forward": 2 * (2 * 64 * 256 + 320)}
    found = bounds_of(asked)
    assert found[ATTENTION] == 2 * (64 + 64) * 5 and found[FEED_FORWARD] == 2 * 64 * 256 * 5
    assert found[MATRICES] == linear_memory_capacity(64).bits_per_parameter * 1e5
    assert bounds_of({"parameters": 1e5}) == {}


def test_how_much_a_loss_still_falls():
    assert still_falling([[step, 5.0 - step] for step in range(5)]) == pytest.approx(0.1)
    assert still_falling([[0, 5.0], [10, 1.0], [90, 1.0], [100, 1.0]]) == 0
    assert still_falling([[0, 5.0], [10, 5.0], [100, 5.0]]) is None and still_falling([[0, 5.0], [1, 4.0]]) is None
    assert still_falling([[0, 5.0], [10, 1.0], [100, 2.0]]) == 0  # it rose


@pytest.mark.parametrize("decay", [0.5, 1.0, 5.0, 20.0, 60.0])
def test_a_loss_is_asked_by_what_its_rates_let_it_learn(decay):
    """Gradient flow on a quadratic, dL/ds = −λ L, s the rates summed up: a rate that ends at nothing ends every such curve flat, finished or not."""
    training = Training(steps=1000)
    steps = list(range(0, 1001, 5))
    progress = training.progress(steps)
    assert progress[0] == 0 and progress[-1] == 1 and training.progress([600])[0] == pytest.approx(0.9, abs=0.01)
    curve = [[step, 1 + math.exp(-decay * float(done))] for step, done in zip(steps, progress, strict=True)]
    learned = still_falling(curve, training)
    assert learned == pytest.approx((math.exp(-0.9 * decay) - math.exp(-decay)) / (1 - math.exp(-decay)), abs=1e-3)
    longer = (math.exp(-decay) - math.exp(-4 * decay)) / (1 - math.exp(-4 * decay))  # what four times the steps would still bring, as a share of their fall
    assert (learned > Rules().falling) == (longer > 0.1)
    assert still_falling(curve) < 0.003  # its last steps say nothing


def test_a_plateau_under_a_rate_that_ends_at_nothing_is_one_of_its_training():
    training = Training(steps=1000)
    learned = lambda decay: [[step, 2 + math.exp(-decay * float(training.progress([step])[0])), 3.0] for step in range(0, 1001, 50)]
    runs = lambda decay: [run | {"rate": 0.01, "curve": learned(decay)} for run in sweep((16,))]
    done, cut = (summarise(runs(decay)) for decay in (20.0, 1.0))
    binds = [[point.binds for point in found.studies[0].sizes[0].points] for found in (done, cut)]
    assert binds[0] == [{"training": "capacity"}.get(bound, bound) for bound in binds[1]] and binds[0][-1] == "capacity"
    told = [" ".join(found.verdict()["uniform, softmax, gelu"]) for found in (done, cut)]
    assert all("Measured capacity: 2.01" in said for said in told)
    assert "lower bound" not in told[0] and "It is a capacity of this training, and a lower bound" in told[1] and "one of its training" in told[1]


@pytest.mark.parametrize(("number", "text"), [(20480, "20.5k"), (999.6, "1k"), (0.25, "0.25"), (3.12e6, "3.12M"), (7e13, "70T"), (math.inf, "inf")])
def test_numbers_are_short(number, text):
    assert short(number) == text


@pytest.mark.parametrize(
    ("given", "error", "says"),
    [
        ([], ValueError, "no run"),
        ("runs/", TypeError, "iterable of dicts"),
        ([3], TypeError, "number 1"),
        ([{"parameters": 1}], ValueError, "'data bits', 'memorised bits'"),
        ([record(8, 16) | {"memorised bits": math.nan}], ValueError, "finite number, got nan"),
        ([record(8, 16), record(8, 64) | {"parameters": 0}], ValueError, "record number 2"),
    ],
)
def test_what_is_no_record_is_said(given, error, says):
    with pytest.raises(error, match=re.escape(says)):
        summarise(given)
    with pytest.raises(ValueError, match="share lies in"):
        Rules(share=1.5)


# the files


def test_the_three_files_say_the_same(written):
    numbers = json.loads(written.with_suffix(".json").read_text(encoding="utf-8"))
    assert written.name == "report.html" and written.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    inside = re.search(r'download="report.json" href="data:application/json;base64,([^"]+)"', written.read_text(encoding="utf-8"))
    assert inside is not None and json.loads(base64.b64decode(inside[1])) == numbers
    assert len(numbers["rows"]) == 2 * 5 + 2 * 2 and {row["binds"] for row in numbers["rows"]} <= set(BINDINGS.values())
    found = summarise(Memorization(tuple(sweep((8, 16)))))
    assert numbers["verdict"]["uniform, softmax, gelu"] == found.verdict()["uniform, softmax, gelu"]


def test_the_same_records_write_the_same_page():
    runs = sweep((8, 16), (16, 1024), (0, 1, 2))
    mixed = [random.Random(turn).sample(runs, len(runs)) for turn in range(5)]
    assert all(summarise(other).to_json() == summarise(runs).to_json() for other in mixed if other != runs)
    assert mixed[0] != runs and summarise(runs).page() == summarise(mixed[0]).page()


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        report(sweep((8,), (16, 64), (0,)), tmp_path / "file")


def hot(config):
    if config["examples"] == 64:
        raise ArithmeticError("too hot")
    return record(8, config["examples"])


def test_the_command_reads_a_folder_of_runs(tmp_path):
    with pytest.raises(RuntimeError, match="too hot"):
        take(hot, [{"examples": examples} for examples in (16, 64, 256, 1024)], folder=tmp_path / "runs")
    take(lambda config: {"other": 1}, [{"examples": 16}], folder=tmp_path)  # another work's, which is no business of this page
    (tmp_path / "runs" / f"{'0' * 20}.json").write_text('{"parameters": 1', encoding="utf-8")
    (tmp_path / "all.jsonl").write_text("\n".join(json.dumps(run | {"seconds": 3.0}) for run in sweep((8,), (16, 1024), (0,))), encoding="utf-8")
    done = CliRunner().invoke(app, ["report", str(tmp_path)])
    assert done.exit_code == 0 and (tmp_path / "report.html").exists() and "data-limited" in done.output
    assert f"{'0' * 20}.json is corrupt" in done.stderr and "too hot" in done.stderr and "all.jsonl" not in done.stderr
    rows = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))["rows"]
    assert [(row["data bits"], row["runs"]) for row in rows] == [(count * BITS, 1) for count in (16, 256, 1024)]  # each run once
    (tmp_path / "lines").mkdir()
    (tmp_path / "all.jsonl").rename(tmp_path / "lines" / "all.jsonl")
    assert CliRunner().invoke(app, ["report", str(tmp_path / "lines")]).exit_code == 0 and (tmp_path / "lines" / "report.html").exists()
    (tmp_path / "empty").mkdir()
    empty = CliRunner().invoke(app, ["report", str(tmp_path / "empty")])
    assert empty.exit_code == 2 and "holds no records" in re.sub(r"[\s│]+", " ", empty.output)
    missing = CliRunner().invoke(app, ["report", str(tmp_path / "runs" / "nothing")])
    assert missing.exit_code == 2 and "is no folder" in re.sub(r"[\s│]+", " ", missing.output)


def test_what_memorize_wrote_is_counted_once(tmp_path, monkeypatch):
    """Every run stands twice below the folder: in a file of its own, which says where it comes from, and in one of all, which does not."""
    part = presets.Part(UniformTokens(8, 12), ({"width": 4}, {"width": 8}), (4, 16, 64), 2, Training(steps=5, batch=4))
    monkeypatch.setitem(presets.PRESETS, "tiny", presets.Preset((part,), "a moment"))
    done = CliRunner().invoke(app, ["memorize", "--preset", "tiny", "--out", str(tmp_path), "--processes", "1"])
    assert done.exit_code == 0, done.output
    assert len((tmp_path / "memorization.jsonl").read_text(encoding="utf-8").splitlines()) == len(list((tmp_path / "runs").glob("*.json"))) == 12
    assert CliRunner().invoke(app, ["report", str(tmp_path)]).exit_code == 0
    rows = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))["rows"]
    assert [row["runs"] for row in rows] == [2] * 6


# the page, as text


class Outline(HTMLParser):
    """Tags with their attributes, in order."""

    def __init__(self, text):
        super().__init__()
        self.tags = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def of(self, *names):
        return [attributes for tag, attributes in self.tags if tag in names]


@pytest.fixture(scope="module")
def outline(written):
    return Outline(written.read_text(encoding="utf-8"))


def test_the_page_refers_to_nothing_outside_of_it(written, outline):
    assert all(value.startswith(("data:", "#")) for tag in outline.tags for name in ("src", "href", "srcset", "action") if (value := tag[1].get(name)))
    assert not outline.of("iframe", "object", "embed", "base", "form")
    assert [t["href"] for t in outline.of("link")] == ["data:,"]
    text = written.read_text(encoding="utf-8")
    assert "@import" not in text and "url(" not in text and "fetch(" not in text and "//" not in re.sub(r"base64,[^\"]+", "", text)
    for image in outline.of("img"):
        svg = base64.b64decode(image["src"].split(",")[1]).decode()
        assert svg.startswith("<svg") and set(re.findall(r'(?:href|src)="(#|data:|.)', svg)) <= {"#", "data:"} and "<script" not in svg and "url(#" in svg


def test_what_records_say_is_text_and_never_markup(written, outline):
    assert HOSTILE not in written.read_text(encoding="utf-8") and len(outline.of("script")) == 1


def test_headings_are_in_order_and_places_are_named_once(outline):
    levels = [int(tag[1]) for tag, _ in outline.tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1 and levels.count(1) == 1 and all(after <= before + 1 for before, after in itertools.pairwise(levels))
    names = [attributes["id"] for _, attributes in outline.tags if "id" in attributes]
    assert len(names) == len(set(names))
    referred = [a["href"][1:] for a in outline.of("a") if a["href"].startswith("#")] + [s["aria-labelledby"] for s in outline.of("section")]
    assert set(referred) <= set(names)


def test_every_image_has_words_and_every_control_takes_the_focus(outline):
    images = outline.of("img")
    assert len(images) >= 8 and all(len(image["alt"]) > 40 and image["width"] and image["height"] for image in images)
    assert len({image["alt"] for image in images}) == len(images)
    for tag, attributes in outline.tags:
        acts = "onclick" in attributes or attributes.get("role") in ("button", "link")
        assert not acts and int(attributes.get("tabindex", 0)) <= 0
        assert tag != "a" or "href" in attributes
        assert tag != "button" or ("disabled" not in attributes and attributes["type"] == "button")
    assert len(outline.of("summary")) == len(outline.of("details")) and all("scope" in cell for cell in outline.of("th"))
    assert len(outline.of("caption")) == len(outline.of("table")) == sum(region.get("role") == "region" for region in outline.of("div"))
    assert outline.of("html")[0]["lang"] == "en" and any("width=device-width" in meta.get("content", "") for meta in outline.of("meta"))


def luminance(colour):
    """Relative luminance of WCAG 2.2."""
    channels = np.array(colour[:3]) / 255
    return float(np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4) @ (0.2126, 0.7152, 0.0722))


def contrast(one, other):
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_colours_have_contrast_in_light_dark_and_print(written):
    assert contrast((0, 0, 0), (255, 255, 255)) == pytest.approx(21) and contrast((118, 118, 118), (255, 255, 255)) == pytest.approx(4.54, abs=0.01)
    blocks = re.findall(r":root \{([^}]*)\}", written.read_text(encoding="utf-8"))
    assert len(blocks) == 3
    for block in blocks:
        colours = {name: tuple(bytes.fromhex(code)) for name, code in re.findall(r"--(\w+): #(\w{6})", block)}
        pairs = [(ink, paper) for ink in ("text", "muted", "link") for paper in ("paper", "raised")]
        assert all(contrast(colours[ink], colours[paper]) >= 4.5 for ink, paper in pairs)
        assert "focus" not in colours or contrast(colours["focus"], colours["paper"]) >= 3


# the page, opened

INKS = """(() => { const rgb = (t) => t.match(/[\\d.]+/g).map(Number), found = [];
for (const e of document.querySelectorAll('body *')) {
  if (![...e.childNodes].some(n => n.nodeType === 3 && n.data.trim()) || ['SCRIPT', 'STYLE'].includes(e.tagName)) continue;
  let b = e; while (b && rgb(getComputedStyle(b).backgroundColor)[3] === 0) b = b.parentElement;
  found.push([rgb(getComputedStyle(e).color), b ? rgb(getComputedStyle(b).backgroundColor) : null, e.tagName]); } return found; })()"""
FOCUSED = """(() => { const e = document.activeElement, s = getComputedStyle(e), r = e.getBoundingClientRect();
return [e.tagName, parseFloat(s.outlineWidth), s.outlineStyle, r.width > 0 && r.height > 0 && r.left >= 0 && r.right <= innerWidth + 1,
[...document.querySelectorAll('*')].indexOf(e)]; })()"""
REACHABLE = "[...document.querySelectorAll('a[href], button, summary, [tabindex=\"0\"]')].filter(e => e.checkVisibility({contentVisibilityAuto: true})).length"


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    if chromium.EXECUTABLE is None:
        pytest.skip(f"no Chromium on this machine (looked for {', '.join(chromium.NAMES)})")
    with chromium.browser(tmp_path_factory.mktemp("profile")) as tab:
        yield tab


@pytest.mark.parametrize("width", [360, 1280])
def test_the_page_opens_without_a_network_and_without_scrolling_sideways(page, written, width):
    page.open(written, width)
    requests = [event["params"]["request"]["url"] for event in page.events if event["method"] == "Network.requestWillBeSent"]
    assert requests and all(url.startswith(("file:", "data:")) for url in requests)
    assert not [event for event in page.events if event["method"] in ("Log.entryAdded", "Runtime.exceptionThrown")]
    assert page.ask("[...document.images].every(image => image.complete && image.naturalWidth > 0)")
    page.ask("document.querySelectorAll('details').forEach(part => { part.open = true; })")
    assert page.ask("document.documentElement.scrollWidth") <= width == page.ask("innerWidth")
    if width == 360:
        assert page.ask("[...document.querySelectorAll('.scroll')].some(part => part.scrollWidth > part.clientWidth)")  # the tables scroll, each by itself
        assert page.ask("Math.min(...[...document.querySelectorAll('button, summary, nav a')].map(e => e.getBoundingClientRect().height))") >= 24


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_has_contrast_as_it_is_shown(page, written, scheme):
    page.open(written, 360, scheme=scheme)
    inks = page.ask(INKS)
    assert len(inks) > 50 and all(contrast(ink, paper) >= 4.5 for ink, paper, _ in inks)
    assert (luminance(inks[0][1]) < 0.1) == (scheme == "dark")


def test_the_keyboard_reaches_everything_in_order_and_shows_where_it_is(page, written):
    page.open(written, 360)
    count, seen = page.ask(REACHABLE), []
    for _ in range(count):
        page.press("Tab", 9)
        seen.append(page.ask(FOCUSED))
    assert [place[4] for place in seen] == sorted({place[4] for place in seen}) and len(seen) > 20
    assert seen[0][0] == "A" and {"A", "BUTTON", "SUMMARY"} <= {place[0] for place in seen}
    assert all(outline >= 2 and style != "none" and shown for _, outline, style, shown, _ in seen)


def test_tables_open_and_scroll_by_keys(page, written):
    page.open(written, 360)
    assert not page.ask("[...document.querySelectorAll('details')].some(part => part.open)")
    page.ask("document.getElementById('tables').focus()")
    page.press("Enter", 13, "\r")
    assert page.ask("[...document.querySelectorAll('details.numbers')].every(part => part.open)")
    assert page.ask("document.getElementById('tables').getAttribute('aria-pressed')") == "true"
    page.ask("document.querySelector('.scroll').focus()")
    page.press("ArrowRight", 39)
    assert page.ask("new Promise(done => setTimeout(() => done(document.querySelector('.scroll').scrollLeft), 400))") > 0
    page.ask("document.querySelector('details:not(.numbers) summary').focus()")
    page.press("Enter", 13, "\r")
    assert page.ask("document.querySelector('details:not(.numbers)').open")


def test_printed_every_table_is_open(page, written):
    page.open(written, 1280)
    page.ask("dispatchEvent(new Event('beforeprint'))")
    assert page.ask("[...document.querySelectorAll('details')].every(part => part.open)")
    pdf = base64.b64decode(page("Page.printToPDF")["data"])
    assert pdf.startswith(b"%PDF")
    page.ask("dispatchEvent(new Event('afterprint'))")
    assert not page.ask("[...document.querySelectorAll('details')].some(part => part.open)")
