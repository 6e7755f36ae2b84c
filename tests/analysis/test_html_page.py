import base64
import html.parser

import pytest

from lrfr_jax.analysis import html_page

BAD = "<script>alert('x')</script> & \"q\""


class Reader(html.parser.HTMLParser):
    """Collects the tags, attributes and text of a page, and checks that every tag is closed."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes, self.texts, self.open = [], [], [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += attributes
        self.open += [] if tag in ("meta", "img") else [tag]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


@pytest.fixture
def page():
    lines = [["row", BAD, "n"], ["a", BAD, "1 +- 2"], ["a", "y", "3"], ["b", "z", "4"]]
    parts = [html_page.heading(BAD, level=2), html_page.paragraph(BAD), html_page.table(lines, kind="numbers")]
    parts += [html_page.figure(b"\x89PNG bytes", BAD), html_page.folded(BAD, BAD)]
    return html_page.page(BAD, parts)


def test_everything_is_escaped_and_stands_where_it_should(page):
    reader = Reader(page)
    assert "script" not in reader.tags
    assert "".join(reader.texts).count(BAD) == 9
    assert dict(reader.attributes)["alt"] == BAD
    assert (reader.tags.count("tr"), reader.tags.count("td"), reader.tags.count("th")) == (4, 9, 3)
    assert reader.attributes.count(("class", "first")) == 2
    assert "1 ± 2" in reader.texts


def test_the_page_needs_nothing_else(page):
    reader = Reader(page)
    image = dict(reader.attributes)["src"]
    assert base64.b64decode(image.removeprefix("data:image/png;base64,")) == b"\x89PNG bytes"
    assert not {"link", "script", "iframe", "object"} & set(reader.tags)
    assert [name for name, _ in reader.attributes if name.startswith("on") or name == "href"] == []
    assert ("content", "default-src 'none'; img-src data:; style-src 'unsafe-inline'") in reader.attributes
    assert "http" not in page.replace("http-equiv", "")
