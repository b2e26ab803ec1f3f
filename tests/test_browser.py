"""The report in headless Chromium, opened from disk: what it shows, does and says aloud.

Opt-in: `pytest -m browser`, with the extra `browser` and a Chromium of the system or of Playwright.
"""

import re
import shutil

import numpy as np
import pytest
from conftest import encode, write_tar
from PIL import Image
from synthetic import PREPROCESSING, curve, made, seal

from pipeline import studies
from pipeline.report import page as report

pytestmark = pytest.mark.browser

GRID, N = {"_target_": "pipeline.players.patch_grid.PatchGrid", "grid": 4}, 16
SEARCH = {
    "_target_": "pipeline.methods.subset.Subset",
    "score": {"_target_": "pipeline.scores.target.Target"},
    "search": {"_target_": "pipeline.searches.greedy.Greedy"},
}
RANDOM = "pipeline.methods.random.Random"
METHODS = {
    "moxi": (SEARCH, 4.0),
    "gradcam": ({"_target_": "pipeline.methods.gradcam.GradCam"}, 2.0),
    **{f"random_{seed}": ({"_target_": RANDOM, "seed": seed}, 1.0) for seed in (0, 1)},
}
KEYS = [f"photo {i:02}/é" for i in range(30)]
VIEWS = ("overview", "images", "mistakes", "failures", "provenance")
SETTINGS = {"subset": "all", "grid": 21, "resamples": 50, "confidence": 0.95, "seed": 0}


def rows_of(method: str, seed: int, power: float) -> list[dict]:
    """Curves of which those of larger `power` are better; every sixth image is a mistake."""
    fraction_G, found = np.linspace(0, 1, N + 1), []
    for i, key in enumerate(KEYS):
        rng, wrong = np.random.default_rng([seed, i]), i % 6 == 0
        for objective in ("insertion", "deletion"):
            top = rng.uniform(0.5, 0.9)
            rises = objective == "insertion"
            y_G = 0.01 + top * (fraction_G ** (1 / power) if rises else (1 - fraction_G) ** power)
            top1_G = (y_G > 0.5) & ~(wrong & (fraction_G == (1 if rises else 0)))
            found.append(
                curve(key, method, method, objective=objective, n_players=N)
                | {"label": 1 + i % 3, "target": 1 + i % 3, "prediction": 1 + i % 3 + 7 * wrong}
                | {"order": rng.permutation(N).tolist(), "fraction": fraction_G.tolist()}
                | {"probability": y_G.tolist(), "log_odds": np.log(y_G / (1 - y_G)).tolist()}
                | {"top1": top1_G.tolist(), "flip": int(np.argmax(top1_G == rises))}
                | {"auc_probability": float(np.trapezoid(y_G, fraction_G))}
            )
    return found


@pytest.fixture(scope="module")
def address(tmp_path_factory) -> str:
    """A report of 30 images, the last ten in a chunk beside it; a failed row."""
    folder = tmp_path_factory.mktemp("browser")
    rng = np.random.default_rng(0)
    noise = {f"{k}.png": rng.integers(0, 255, (56, 56, 3), dtype=np.uint8) for k in KEYS}
    members = {name: encode(Image.fromarray(n), "PNG") for name, n in noise.items()}
    write_tar(folder / "s.tar", members)
    data = {
        "_target_": "pipeline.data.shards.Shards",
        "name": "toy",
        "shards": f"{folder}/s.tar",
        "class_names": "imagenet",
    }
    parts = []
    for seed, (method, (node, power)) in enumerate(METHODS.items()):
        entry = made(method, method, dataset=data, players=GRID, methods={method: node})
        rows = rows_of(method, seed, power)
        if method == "gradcam":
            rows[2] |= {"status": "failed", "error": "the map is <constant>"}
        seen = PREPROCESSING | {"input_size": [3, 56, 56]}
        parts.append((rows, entry | {"preprocessing": seen}))
    run = seal(folder / "run", *parts)
    (found,) = studies.findings(SETTINGS | {"out": run.out})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(report, "INLINE", 20)
        place = report.write(run, [found.section(len(KEYS))], confidence=0.95, notes=["a note"])
    return f"file://{place}"


@pytest.fixture(scope="module")
def browser():
    api = pytest.importorskip("playwright.sync_api")
    with api.sync_playwright() as playwright:
        chromium = shutil.which("chromium") or shutil.which("chromium-browser")
        try:
            found = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        except api.Error as error:
            pytest.skip(f"no Chromium: {error}")
        yield found
        found.close()


@pytest.fixture
def tab(browser, address, request):
    """A page that fails the test at the first console error."""
    options = getattr(request, "param", {"viewport": {"width": 1440, "height": 900}})
    context = browser.new_context(**options)
    opened, said = context.new_page(), []
    opened.on("console", lambda m: said.append(m.text) if m.type in ("error", "warning") else None)
    opened.on("pageerror", lambda error: said.append(str(error)))
    opened.goto(address)
    yield opened
    context.close()
    assert said == []


def go(tab, place: str) -> None:
    """Change the address and let the page answer."""
    tab.evaluate(
        """place => new Promise((done) => {
            const before = location.hash;
            addEventListener("hashchange", () => setTimeout(done), { once: true });
            location.hash = place;
            if (location.hash === before) done();
        })""",
        place,
    )


def picture(tab, canvas: str, number: int = 0, but: str = "") -> str:
    """What a canvas shows, once it is drawn and shows something else than `but`."""
    seen = tab.wait_for_function(
        """([where, number, but]) => {
            const canvas = document.querySelectorAll(where)[number];
            if (!canvas) return false;
            const blank = document.createElement("canvas");
            Object.assign(blank, { width: canvas.width, height: canvas.height });
            const seen = canvas.toDataURL();
            return seen !== blank.toDataURL() && seen !== but && seen;
        }""",
        arg=[canvas, number, but],
    )
    return seen.json_value()


def address_of(tab) -> str:
    # the page's own answer: Playwright's `url` hears later of what replaceState changes
    return tab.evaluate("location.href")


def replay(tab, key: int = 0, query: str = "") -> None:
    name, rest = KEYS[key].split("/")
    parts = "/".join(f"{part}".replace(" ", "%20") for part in ("toy", "s.tar", name, rest))
    go(tab, f"#/image/{parts}{query}")
    tab.wait_for_selector(".stage canvas[data-k]")


SIZES = [
    {"viewport": {"width": width, "height": 900}, "color_scheme": scheme}
    for width in (1440, 390)
    for scheme in ("light", "dark")
]


@pytest.mark.parametrize("tab", SIZES, indirect=True)
def test_no_view_has_a_serious_violation_or_is_wider_than_the_screen(tab):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()

    def check(view: str) -> None:
        found = axe.run(tab).response["violations"]
        serious = [v for v in found if v["impact"] in ("serious", "critical")]
        assert serious == [], view
        widths = "[document.documentElement.scrollWidth, innerWidth]"
        assert (lambda whole, seen: whole <= seen)(*tab.evaluate(widths)), view

    for view in VIEWS:
        go(tab, f"#/{view}")
        tab.wait_for_selector(f"#{view}.shown")
        tab.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
        check(view)
    replay(tab)
    check("image")
    # and it does find what is wrong
    tab.evaluate("document.querySelector('.player input').removeAttribute('aria-label')")
    found = axe.run(tab).response["violations"]
    assert any(v["impact"] in ("serious", "critical") for v in found)


def test_the_slider_changes_pictures_and_probabilities(tab):
    replay(tab)
    slider, said = tab.locator(".player input"), tab.locator(".stage p")
    assert said.first.inner_text().startswith("0 of 16 players, 0 % of the pixels shown")
    before = [picture(tab, ".stage canvas", side) for side in (0, 1)]
    slider.fill("5")
    for side in (0, 1):
        picture(tab, ".stage canvas", side, but=before[side])
    told = r"5 of 16 players, 31 % of the pixels shown: probability 0\.\d{3}"
    assert re.match(told, said.first.inner_text())
    slider.focus()
    tab.keyboard.press("ArrowRight")
    assert said.first.inner_text().startswith("6 of 16")
    tab.locator("h1:visible").click()
    tab.keyboard.press("ArrowLeft")
    tab.keyboard.press("ArrowLeft")
    assert said.nth(1).inner_text().startswith("4 of 16") and "k=4" in address_of(tab)


def test_play_moves_on_and_stops(tab):
    replay(tab, query="?k=13")
    tab.get_by_role("button", name="Play").click()
    tab.wait_for_selector('.stage canvas[data-k="16"]')
    tab.wait_for_function("document.querySelector('.player button').textContent === 'Play'")


def test_an_address_brings_the_same_state_back(tab):
    replay(tab, 1, "?a=gradcam&b=random_1&o=deletion&q=log_odds&k=7")
    assert tab.get_by_label("order of", exact=True).input_value() == "gradcam"
    assert tab.get_by_label("beside", exact=True).input_value() == "random_1"
    tab.get_by_label("order of", exact=True).select_option("moxi")
    url, said = address_of(tab), tab.locator(".stage p").first.inner_text()
    assert said.startswith("7 of 16 players, 44 % of the pixels hidden")
    tab.goto("about:blank")
    tab.goto(url)
    tab.wait_for_selector('.stage canvas[data-k="7"]')
    assert tab.get_by_label("order of", exact=True).input_value() == "moxi"
    assert tab.locator(".stage p").first.inner_text() == said


def test_filters_choose_and_order_images(tab):
    go(tab, "#/images")
    count, cards = tab.locator("[data-count=images]"), tab.locator("[data-cards=images] > li")
    assert count.inner_text() == "30 of 30 images" and cards.count() == 24
    tab.get_by_role("button", name="Show more").click()
    assert cards.count() == 30
    form = tab.locator("[data-filters=images]")

    def chosen(name: str):
        return form.get_by_label(name, exact=True)

    chosen("prediction").select_option("wrong")
    assert count.inner_text() == "5 of 30 images"
    chosen("class explained").select_option(label="goldfish (1)")
    assert count.inner_text() == "5 of 30 images" and "class=goldfish" in address_of(tab)
    chosen("class explained").select_option("")
    chosen("prediction").select_option("")
    chosen("order").select_option("disagreement")
    first = cards.first.locator("b").inner_text()
    areas = "pixel => JSON.parse(document.getElementById('data').textContent).index"
    spread = {}
    for entry in tab.evaluate(areas):
        by = [[a for _, o, a in entry["areas"] if o == name] for name in ("insertion", "deletion")]
        spread[entry["key"]] = max(max(mine) - min(mine) for mine in by)
    assert first == max(spread, key=lambda key: spread[key])
    chosen("name").fill("photo 07")
    assert count.inner_text() == "1 of 30 images"
    chosen("method").select_option("gradcam")
    tab.wait_for_function(
        "document.querySelector('[data-cards=images] .quiet').textContent.startsWith('gradcam')"
    )


def test_images_in_a_chunk_are_loaded_from_beside_the_page(tab):
    assert tab.evaluate("document.querySelectorAll('script[src]').length") == 0
    replay(tab, 29)
    assert (
        tab.evaluate("document.querySelector('script[src]').getAttribute('src')") == "images/1.js"
    )


def test_a_table_sorts_by_any_head(tab):
    table = tab.locator("table.sortable", has=tab.locator("td.marked"))
    head = table.locator("th", has_text="AUC probability")
    for direction in ("ascending", "descending"):
        head.get_by_role("button").click()
        assert head.get_attribute("aria-sort") == direction
        column = [
            cell.split()[0]
            for cell in table.locator("td.marked, td:nth-child(3)").all_inner_texts()
        ]
        numbers = [float(cell) for cell in column]
        assert numbers == sorted(numbers, reverse=direction == "descending") and len(numbers) == 8


def test_curves_switch_between_objectives_quantities_and_images(tab):
    plot = tab.locator(".curves .plot")
    seen = {plot.get_attribute("aria-label")}
    for name, value in (("quantity", "top1"), ("quantity", "log_odds"), ("images", "wrong")):
        tab.locator(".curves").get_by_label(name, exact=True).select_option(value)
        seen.add(plot.get_attribute("aria-label"))
    tab.locator(".curves").get_by_label("objective", exact=True).select_option("deletion")
    said = plot.get_attribute("aria-label")
    assert said.startswith("log-odds of the target along deletion, mistaken: ") and len(seen) == 4
    legend = tab.locator(".curves .legend button")
    assert [text.strip() for text in legend.all_inner_texts()] == [
        "gradcam",
        "moxi",
        "random (2 seeds)",
    ]
    before = picture(tab, ".curves canvas")
    legend.first.click()
    assert legend.first.get_attribute("aria-pressed") == "false"
    picture(tab, ".curves canvas", but=before)


def test_links_lead_somewhere(tab):
    for link in tab.locator("nav a").all():
        place = link.get_attribute("href")
        link.click()  # returns before the page has heard of it
        tab.wait_for_selector(f'nav a[href="{place}"][aria-current="page"]')
        shown = tab.locator(".view.shown")
        assert shown.get_attribute("id") == place.removeprefix("#/")
        assert shown.locator("h1").is_visible()
    go(tab, "#/images?right=wrong")
    tab.locator("[data-cards=images] a").nth(1).click()
    tab.wait_for_selector(".stage canvas[data-k]")
    assert tab.locator("h1:visible").inner_text() == KEYS[6]
    tab.get_by_role("link", name="→").click()
    tab.wait_for_function(
        "key => document.querySelector('[data-title]').textContent === key", arg=KEYS[12]
    )
    go(tab, "#/image/toy/s.tar/none")
    assert tab.get_by_text("The report shows no toy/s.tar/none").is_visible()
    go(tab, "#/mistakes")
    assert tab.locator("[data-cards=mistakes] > li").count() == 5
    tab.wait_for_function(
        "document.querySelector('[data-cards=mistakes]').textContent.includes('without the dark')"
    )
    go(tab, "#/failures")
    assert tab.get_by_text("the map is <constant>").first.is_visible()


def test_somebody_may_prefer_the_dark(tab):
    ground = "getComputedStyle(document.body).backgroundColor"
    assert tab.evaluate(ground) == "rgb(255, 255, 255)"
    tab.get_by_role("button", name="Dark colours").click()
    assert tab.evaluate(ground) == "rgb(18, 22, 29)"
    tab.reload()
    assert tab.evaluate(ground) == "rgb(18, 22, 29)"
