"""The reader of Prometheus pages: real pages, odd pages, hostile pages."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from router.observe.exposition import LINES_MAX, Exposition, PageSample, find_samples

ENGINES = Path(__file__).parent.parent / "data" / "engines"
PAGES = sorted(ENGINES.glob("*/metrics_*.txt"))


@pytest.mark.parametrize("path", PAGES, ids=lambda p: f"{p.parent.name}/{p.stem}")
def test_real_pages_read_as_the_reference_parser_reads_them(path: Path) -> None:
    page = path.read_bytes()
    expected: dict[str, list[PageSample]] = {}
    for family in text_string_to_metric_families(page.decode()):
        for sample in family.samples:
            if abs(sample.value) != float("inf") and sample.value == sample.value:
                expected.setdefault(sample.name, []).append(PageSample(sample.labels, sample.value))
    assert len(expected) > 10
    # The reference parser renames counters that lack _total.
    held = {name: samples for name, samples in expected.items() if f"\n{name}" in page.decode()}
    for name, samples in held.items():
        assert find_samples(page, name) == samples[:1000], name


def test_a_name_is_whole_and_begins_a_line() -> None:
    page = b'# TYPE a gauge\n# HELP a a 9\na_total 1\nxa 2\n a 3\na{x="\na 4"} 5\na 6\n'
    assert find_samples(page, "a") == [PageSample({}, 6.0)]
    assert find_samples(page, "b") == []
    assert find_samples(b"a 1", "a") == [PageSample({}, 1.0)], "no newline at the end"
    assert find_samples(b"a 1\r\nb 2\r\n", "a") == [PageSample({}, 1.0)], "line ends of Windows"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (rb'a{x="1",y="2"} 3', PageSample({"x": "1", "y": "2"}, 3)),
        (rb'a{x="1",} 3', PageSample({"x": "1"}, 3)),
        (rb'a{ x = "1" , y="2" } 3', PageSample({"x": "1", "y": "2"}, 3)),
        (rb"a{} 3", PageSample({}, 3)),
        (rb'a{x="} 9",y="a\"b\\c\nd"} 3', PageSample({"x": "} 9", "y": 'a"b\\c\nd'}, 3)),
        (rb"a 3 1795216743863", PageSample({}, 3)),
        (b'a{x="1"} 3 # {trace_id="abc"} 0.5 1.0', PageSample({"x": "1"}, 3)),
        (b"a\t3e-2", PageSample({}, 0.03)),
        ('a{x="é"} 1'.encode(), PageSample({"x": "é"}, 1)),
        (b'a{x="\xff"} 1', PageSample({"x": "�"}, 1)),
        (b"a NaN", None),
        (b"a +Inf", None),
        (b"a", None),
        (b"a ", None),
        (b"a x", None),
        (b'a{x="1" 3', None),
        (b"a{x=1} 3", None),
        (b'a{x="1', None),
        (b"a{x", None),
    ],
)
def test_lines(line: bytes, expected: PageSample | None) -> None:
    assert find_samples(b"b 1\n" + line + b"\nc 2\n", "a") == ([expected] if expected else [])


@given(st.binary(max_size=300))
def test_any_bytes_are_read_without_an_error(page: bytes) -> None:
    for sample in find_samples(b"a{" + page + b"\na " + page, "a"):
        assert sample.value - sample.value == 0


@given(st.data())
def test_where_a_page_is_cut_makes_no_difference(data: st.DataObject) -> None:
    lines = st.sampled_from([b"a 1", b'a{x="1"} 2', b"ab 3", b"# a 4", b"", b"a", b"a 5\r", b'a{x="' + b"y" * 20_000])
    page = b"\n".join(data.draw(st.lists(lines, max_size=8)))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(page)), max_size=6)))
    pieces = Exposition(("a", "ab"))
    for start, end in zip([0, *cuts], [*cuts, len(page)], strict=True):
        pieces.feed(page[start:end])
    pieces.close()
    assert pieces.samples("a") == find_samples(page, "a")
    assert pieces.samples("ab") == find_samples(page, "ab")


@pytest.mark.parametrize(
    "line",
    [b"a 1\n", b"a{\n", b'a{x="' + b"\\" * 30 + b"\n", b"a" * 50 + b"\n", b"\n", b'a{x="1",' * 40 + b"\n", b"a"],
    ids=lambda line: repr(line[:8]),
)
def test_a_hostile_page_is_little_work(line: bytes) -> None:
    exposition = Exposition(("a",))
    piece = line * (64 * 1024 // len(line))
    for _ in range(100):
        exposition.feed(piece)
        assert len(exposition._rest) < 32 * 1024, "what is not read is not kept"
    exposition.close()
    assert exposition.lines["a"] <= LINES_MAX
    assert len(exposition.samples("a")) <= LINES_MAX
