"""Whole documents as PDF and HTML: what is in them, and that text stays text."""

import io
import math
import re
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser

import pypdf
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reports_service.documents import Chart, Document, Format, Sample, Series, Status, Table, Text, Tone, Window
from reports_service.rendering import render

START = datetime(2026, 8, 1, 14, tzinfo=UTC)
STEP = timedelta(seconds=10)
WINDOW = Window(START, START + timedelta(minutes=30))
CREATED = START + timedelta(minutes=31)
INJECTIONS = (
    '#image("/etc/passwd")',
    "#sys.inputs",
    "*bold* _emphasis_ $x^2$ `raw` @label <label> // comment",
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "{{ 7 * 7 }} {% raw %}",
    "]] #let x = 1; #panic()",
    "\\u{1F600} \\ {0} %s",
)


def series(labels=None, *, metric="system.cpu.utilization", unit="1"):
    samples = tuple(Sample(START + i * STEP, 0.5 + 0.4 * math.sin(i / 9)) for i in range(180))
    return Series(metric, labels or {"host": "web-1"}, unit, samples)


def a_chart(*lines, **fields):
    fields.setdefault("metric", "system.cpu.utilization")
    return Chart(**{"title": "CPU", "series": lines or (series(),), "window": WINDOW, "step": STEP, **fields})


def a_document(*sections, **fields):
    given = {"report_id": "01989f6e-7f3a", "kicker": "Report", "title": "Capacity", "created": CREATED}
    return Document(**given | fields, sections=sections)


def rendered(document, form, fonts=None):
    return render(document, form, fonts=fonts, progress=lambda *_: None)


def pdf(document):
    return pypdf.PdfReader(io.BytesIO(rendered(document, Format.PDF)))


def text_of(reader):
    """What a reader copies out of it; spaces of any kind and line ends are one."""
    joined = " ".join(page.extract_text() for page in reader.pages)
    return re.sub(r"\s+", " ", joined.replace("\u200b", ""))


def pictures(reader, kind):
    found = []
    for page in reader.pages:
        objects = page["/Resources"].get("/XObject", {})
        found += [name for name in objects if objects[name].get_object()["/Subtype"] == kind]
    return found


class Page(HTMLParser):
    """Tags, attributes and text of a page."""

    def __init__(self, content):
        super().__init__()
        self.tags, self.attributes, self.texts = [], [], []
        self.feed(content.decode())

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data):
        self.texts.append(data)

    @property
    def text(self):
        return re.sub(r"\s+", " ", " ".join(self.texts))


def html(document):
    return Page(rendered(document, Format.HTML))


def test_a_pdf_has_its_texts_charts_and_pages():
    """Title, band, facts, charts as vectors, legend, table, page numbers and the time of making."""
    document = a_document(
        a_chart(),
        a_chart(title="Memory", metric="system.memory.utilization"),
        Table("Orders", ("id", "state"), (("1", "paid"), *(("2", "late"),) * 30)),
        title="High CPU on web-1",
        subtitle="for a while",
        status=Status(Tone.GOOD, "Resolved", "after 11 min"),
        headlines=(("Worst value", "94.7 %"),),
        facts=(("Rule", "cpu-high"),),
    )

    reader = pdf(document)

    text = text_of(reader)
    for expected in (
        "High CPU on web-1",
        "for a while",
        "Resolved after 11 min",
        "94.7 %",
        "Rule cpu-high",
        "host web-1",
        "90.0 %",
        "paid",
        "late",
        "Generated 2026-08-01 14:31:00 UTC",
        "Page 1 of 2",
        "01989f6e-7f3a",
    ):
        assert expected in text
    assert len(reader.pages) == 2
    assert len(pictures(reader, "/Form")) == 2
    assert pictures(reader, "/Image") == []


def test_a_pdf_carries_its_title_and_time():
    """What a file manager shows of it."""
    reader = pdf(a_document(title="Capacity of 2026"))

    assert reader.metadata.title == "Capacity of 2026"
    assert reader.metadata.author == "Waybill"
    assert reader.metadata.creation_date == CREATED


def test_a_pdf_is_tagged_and_describes_its_charts():
    """It can be read aloud."""
    root = pdf(a_document(a_chart())).trailer["/Root"]

    assert root["/MarkInfo"]["/Marked"]
    assert root["/Lang"] == "en"
    assert "Line chart of system.cpu.utilization" in str(alternatives(root["/StructTreeRoot"]))


def alternatives(element):
    """Every alternative text under a structure element."""
    element = element.get_object()
    if isinstance(element, list):
        return [text for child in element for text in alternatives(child)]
    if not isinstance(element, dict):
        return []
    return [str(element.get("/Alt", ""))] + (alternatives(element["/K"]) if "/K" in element else [])


@pytest.mark.parametrize("form", Format)
def test_the_same_document_gives_the_same_bytes(form):
    """Nothing comes from a clock, a random number or the machine."""
    document = a_document(a_chart(), Text("Note", ("hello",)))

    assert rendered(document, form) == rendered(document, form)


def test_text_is_never_taken_as_typst_code():
    """Wherever it stands: title, facts, labels, cells, paragraphs, axis."""
    for injection in INJECTIONS:
        reader = pdf(everywhere(injection))

        said = text_of(reader).count(re.sub(r"\s+", " ", injection))
        assert said >= 7, injection


def test_text_is_never_taken_as_html():
    """It arrives in the page as the text that it was, and makes no element and no attribute."""
    plain = html(everywhere("harmless"))
    for injection in INJECTIONS:
        page = html(everywhere(injection))

        assert page.tags == plain.tags, injection
        assert [name for name, _ in page.attributes] == [name for name, _ in plain.attributes]
        assert page.text.count(re.sub(r"\s+", " ", injection)) >= 8


def everywhere(text):
    """A document that says the text in every place that takes one."""
    return a_document(
        a_chart(series({"label": text}), title=text, axis_title=text, note=text, threshold=0.8),
        Text(text, (text,)),
        Table(text, (text.lower(),), ((text,),)),
        title=text,
        subtitle=text,
        status=Status(Tone.BAD, text, text),
        facts=((text, text),),
    )


def test_an_html_page_stands_alone():
    """No script, no address, nothing to load: it may be mailed."""
    content = rendered(a_document(a_chart(), a_chart(title="Memory")), Format.HTML).decode()

    page = Page(content.encode())
    assert page.tags.count("svg") == 2 + 2, "two charts, and a stroke in each legend"
    assert not {"script", "link", "img", "iframe", "object"} & set(page.tags)
    assert not [value for name, value in page.attributes if name in {"src", "href", "xlink:href"}]
    assert set(re.findall(r"https?://[^\s\"']+", content)) == {
        "http://www.w3.org/2000/svg",
        "http://www.w3.org/1999/xlink",
    }
    assert "default-src 'none'" in content


def test_an_html_page_suits_light_dark_and_paper():
    """The colours of the charts are the page's variables, each defined for both."""
    content = rendered(a_document(a_chart(threshold=0.9)), Format.HTML).decode()

    assert "prefers-color-scheme: dark" in content
    assert "@media print" in content
    used = set(re.findall(r"var\((--[\w-]+)\)", content))
    light, dark = content.partition("prefers-color-scheme: dark")[::2]
    assert [name for name in used - {"--tone", "--soft"} if f"{name}:" not in light] == []
    assert [name for name in used - {"--tone", "--soft"} if f"{name}:" not in dark.partition("}\n}")[0]] == []


def test_an_html_chart_says_in_words_what_it_shows():
    """For who cannot see it."""
    page = html(a_document(a_chart()))

    assert ("role", "img") in page.attributes
    assert any(name == "aria-label" and value.startswith("Line chart of") for name, value in page.attributes)


@pytest.mark.parametrize("form", Format)
def test_a_chart_without_samples_is_rendered(form):
    """An empty window is an answer, not a failure."""
    document = a_document(a_chart(Series("m", {}, "", ()), threshold=5))

    said = text_of(pdf(document)) if form is Format.PDF else html(document).text
    assert "No samples between 2026-08-01 14:00:00 and 14:30:00 UTC" in said


def test_a_thousand_rows_break_over_pages_under_their_header():
    """Every row is there once, and each page says what the columns are."""
    rows = tuple((f"row-{i:04}", str(i * 1.5)) for i in range(1_000))
    reader = pdf(a_document(Table("Orders", ("name", "amount"), rows)))

    text = text_of(reader)
    assert len(reader.pages) > 15
    assert all(text.count(f"row-{i:04}") == 1 for i in range(1_000))
    assert all("AMOUNT" in page.extract_text() for page in reader.pages)


def test_a_word_that_is_too_long_for_its_place_is_broken():
    """Nothing runs over the edge of the paper."""
    long = "x" * 400
    reader = pdf(a_document(Table("T", ("a", "b"), ((long, "1"),)), facts=((long, long),), title=long[:200]))

    right = reader.pages[0].mediabox.right
    edges = []
    for page in reader.pages:
        page.extract_text(visitor_text=lambda text, _, matrix, *__: edges.append(matrix[4] if text.strip() else 0))
    assert max(edges) < right
    assert text_of(reader).replace(" ", "").count("x") >= 1_000


def test_latin_greek_and_cyrillic_need_no_typeface_of_the_machine():
    """What typst and vl-convert bring along has them."""
    reader = pdf(a_document(a_chart(axis_title="Größe, Ελληνικά, Привет"), title="Zoë, Ελληνικά, Привет"))

    assert "Zoë, Ελληνικά, Привет" in text_of(reader)
    assert "Größe, Ελληνικά, Привет" in text_of(reader)
    fonts = {str(font) for page in reader.pages for font in typefaces(page)}
    assert {font.partition("+")[2].partition("-")[0] for font in fonts} <= {
        "LibertinusSerif",
        "DejaVuSansMono",
        "LiberationSans",
    }


def typefaces(resource):
    """The names of the typefaces that a page or a picture on it is set in."""
    resources = resource.get_object()["/Resources"]
    for font in resources.get("/Font", {}).values():
        yield font.get_object()["/BaseFont"].lstrip("/")
    for picture in resources.get("/XObject", {}).values():
        yield from typefaces(picture)


def test_a_folder_of_fonts_without_fonts_changes_nothing(tmp_path):
    """It adds to the built-in ones, it does not replace them."""
    document = a_document(a_chart(), title="Capacity")

    assert rendered(document, Format.PDF, fonts=tmp_path) == rendered(document, Format.PDF)


def test_progress_tells_every_chart_and_the_page():
    """Each before it begins, in order, and the last step is not yet the end."""
    heard = []
    render(a_document(a_chart(), a_chart()), Format.PDF, progress=lambda *told: heard.append(told))

    assert heard == [("drawing chart 1 of 2", 0, 3), ("drawing chart 2 of 2", 1, 3), ("typesetting", 2, 3)]


@settings(max_examples=30, deadline=None)
@given(st.text(max_size=60), st.text(max_size=60))
def test_every_text_can_be_rendered(title, label):
    """Whatever a client or an exporter writes."""
    document = a_document(a_chart(series({"label": label}), axis_title=title), title=title, facts=((label, title),))

    assert rendered(document, Format.PDF).startswith(b"%PDF-")
    assert rendered(document, Format.HTML).startswith(b"<!doctype html>")
