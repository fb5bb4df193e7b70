"""The report in a real browser: everything is drawn, and nothing complains."""

import re
import shutil
import subprocess
import threading
from pathlib import Path

import pytest
from made_up import make_up

from tuner.report.search_report import build_report

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
LONGEST_S = 240.0
DARK = ("--blink-settings=preferredColorScheme=0",)


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
@pytest.mark.parametrize(("num_trials", "width", "how"), [(30, 500, DARK), (1000, 1500, ())])
def test_a_browser_draws_every_figure_without_a_complaint(
    num_trials: int, width: int, how: tuple[str, ...], tmp_path: Path
) -> None:
    make_up(tmp_path / "results/made-up", num_trials, "coarse", "fine")
    page = tmp_path / "report.html"
    # the test's own end of drawing: all figures come into view, one after the other, and the title says when all have
    wait = (
        "<script>addEventListener('load', async () => { const all = [...document.querySelectorAll('.figure')];"
        "for (const one of all) { one.scrollIntoView(); while (!('drawn' in one.dataset))"
        "await new Promise((go) => setTimeout(go, 20)); }"
        "console.log('drawn ' + all.length + ' with ' + document.querySelectorAll('.main-svg').length + ' in '"
        "+ getComputedStyle(document.body).backgroundColor); });</script></body>"
    )
    page.write_text(build_report(tmp_path / "results/made-up").replace("</body>", wait))
    assert CHROMIUM is not None
    command = [CHROMIUM, "--headless", "--no-sandbox", "--enable-unsafe-swiftshader", "--enable-logging=stderr"]
    command += [f"--user-data-dir={tmp_path}/profile", f"--window-size={width},1000", *how, "--remote-debugging-port=0"]
    browser = subprocess.Popen([*command, page.as_uri()], stderr=subprocess.PIPE, text=True)
    too_late = threading.Timer(LONGEST_S, browser.kill)
    too_late.start()
    said: list[str] = []
    try:
        assert browser.stderr is not None
        for line in browser.stderr:
            if "CONSOLE" in line:
                said.append(line)
            if "drawn " in line:
                break
    finally:
        too_late.cancel()
        browser.kill()
        browser.communicate()
    done = re.search(r'"drawn (\d+) with (\d+) in (rgb\(\d+)', said[-1] if said else "")
    assert done is not None, said
    assert int(done[1]) > 20
    assert int(done[2]) >= int(done[1]), "each has a drawing in it"
    assert (int(done[3].removeprefix("rgb(")) < 100) == bool(how), "dark where the system is"
    complaints = [line for line in said[:-1] if "GL Driver" not in line]
    assert not complaints
