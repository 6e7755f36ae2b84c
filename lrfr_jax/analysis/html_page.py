"""Pieces of one self-contained HTML page: everything is escaped, images are embedded, nothing is fetched or run."""

import base64
import html
from collections.abc import Sequence

# The policy makes a browser refuse whatever is not on the page itself.
_HEAD = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; color: #1a1a1a; max-width: 1280px; margin: 2em auto; padding: 0 1em; }}
h1 {{ font-size: 1.6em; line-height: 1.25; }}
h2 {{ font-size: 1.25em; border-bottom: 1px solid #ccc; margin-top: 2.2em; }}
h3 {{ font-size: 1em; margin: 1.6em 0 .4em; }}
.wide {{ overflow-x: auto; margin: .8em 0; }}
table {{ border-collapse: collapse; font-size: .85em; font-variant-numeric: tabular-nums; }}
th, td {{ padding: .15em .5em; text-align: right; white-space: nowrap; }}
th:nth-child(-n+{words}), td:nth-child(-n+{words}) {{ text-align: left; }}
thead th {{ border-bottom: 2px solid #888; }}
tbody tr.first td {{ border-top: 1px solid #ddd; }}
table.text td, table.text th {{ text-align: left; }}
figure {{ margin: 1.2em 0; }}
figure img {{ max-width: 100%; height: auto; }}
figcaption {{ font-size: .9em; color: #444; }}
pre {{ font-size: .8em; background: #f5f5f5; padding: .8em; overflow-x: auto; }}
</style>
</head>
<body>
"""
# Columns of words at the left of a table of numbers, as in the tables on screen.
_WORDS = 2


def page(title: str, parts: Sequence[str]) -> str:
    """A whole page of parts that the functions below made."""
    head = _HEAD.format(title=html.escape(title), words=_WORDS)
    return "\n".join([head, f"<h1>{html.escape(title)}</h1>", *parts, "</body>\n</html>\n"])


def heading(text: str, *, level: int) -> str:
    """A heading, 2 for a section and 3 for a part of one."""
    return f"<h{level}>{html.escape(text)}</h{level}>"


def paragraph(text: str) -> str:
    """Running text."""
    return f"<p>{_text(text)}</p>"


def table(lines: Sequence[Sequence[str]], *, kind: str) -> str:
    """A table whose first line is the head.

    Args:
      lines: cells of equal number; the first cell names the row, and a rule is drawn where it changes.
      kind: 'numbers' (two columns of words, numbers to the right) or 'text'.
    """
    head, *body = lines
    rows = []
    for number, line in enumerate(body):
        is_first = number == 0 or line[0] != body[number - 1][0]
        cells = "".join(f"<td>{_text(cell)}</td>" for cell in line)
        rows.append(f'<tr class="first">{cells}</tr>' if is_first else f"<tr>{cells}</tr>")
    heads = "".join(f"<th>{_text(cell)}</th>" for cell in head)
    joined = "\n".join(rows)
    return (
        f'<div class="wide"><table class="{html.escape(kind)}"><thead><tr>{heads}</tr></thead>\n'
        f"<tbody>\n{joined}\n</tbody></table></div>"
    )


def figure(png: bytes, caption: str) -> str:
    """An embedded picture with its caption, which is its alternative text as well."""
    data = base64.b64encode(png).decode("ascii")
    return (
        f'<figure><img src="data:image/png;base64,{data}" alt="{html.escape(caption)}">'
        f"<figcaption>{_text(caption)}</figcaption></figure>"
    )


def folded(summary: str, text: str) -> str:
    """Text as it stands, shown when its summary is clicked."""
    return f"<details><summary>{html.escape(summary)}</summary><pre>{html.escape(text)}</pre></details>"


def _text(text: str) -> str:
    return html.escape(text).replace("+-", "±")
