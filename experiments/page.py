"""Parts of pages in docs/ that programs write: each is between two marker comments, and the rest of the page does not
change."""

import io
import re

from dnnlib.util import atomic_write


def begin(name):
    return f"<!-- {name}: begin -->"


def end(name):
    return f"<!-- {name}: end -->"


def put(path, name, text, heading=None):
    """Write `text` between the markers of `name` in the file `path`; if there are none, both are appended."""
    page = path.read_text(encoding="utf-8") if path.exists() else f"# {path.stem.capitalize()}\n"
    part = f"{begin(name)}\n{text}\n{end(name)}"
    if begin(name) in page and end(name) in page:
        page = re.sub(f"{re.escape(begin(name))}.*{re.escape(end(name))}", lambda _: part, page, flags=re.DOTALL)
    else:
        page = f"{page.rstrip()}\n\n{f'{heading}' + chr(10) * 2 if heading else ''}{part}\n"
    with atomic_write(path, "w") as file:
        file.write(page)


def table(head, rows):
    """Lines of a Markdown table; cells are texts."""
    return ["| " + " | ".join(head) + " |", "|---" * len(head) + "|", *("| " + " | ".join(row) + " |" for row in rows)]


def save_figure(path, picture):
    """Write a matplotlib figure as a small PNG."""
    import PIL.Image

    rendered = io.BytesIO()
    picture.savefig(rendered, dpi=80)
    with atomic_write(path) as file:
        PIL.Image.open(rendered).convert("RGB").quantize(64).save(file, "PNG", optimize=True)
