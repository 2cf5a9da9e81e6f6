"""How fast the report's page with 10,000 problems loads and filters in Chromium.

python benchmarks/report_page.py
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "helpers"))
from browser import find_chromium, large_page, opened

TIMED = """([id, value]) => {
    const e = document.getElementById(id), begun = performance.now();
    e.value = value;
    e.dispatchEvent(new Event(id === 'search' ? 'input' : 'change'));
    document.body.offsetHeight;
    return performance.now() - begun;
}"""
ACTS = (["search", "beads 99"], ["right", "2"], ["search", ""])


def main() -> None:
    """Measure five times and print medians."""
    from playwright.sync_api import sync_playwright

    loads: list[float] = []
    filters: list[float] = []
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        path = Path(folder) / "large.html"
        path.write_text(large_page(10_000), encoding="utf-8")
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=["--no-sandbox"])
        for _ in range(5):
            with opened(browser, path) as page:
                loads.append(page.evaluate("performance.getEntriesByType('navigation')[0].loadEventEnd"))
                filters.append(max(page.evaluate(TIMED, list(act)) for act in ACTS))
        browser.close()
    print(f"10,000 problems, {large_page(10_000).__sizeof__() / 1e6:.1f} MB, median of 5:")
    print(f"loaded in {statistics.median(loads):.0f} ms, slowest of three filters {statistics.median(filters):.0f} ms")


if __name__ == "__main__":
    main()
