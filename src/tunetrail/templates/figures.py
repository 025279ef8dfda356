"""Figures as they are stored and as they stand in a page; each is drawn once."""

import base64
import io
import warnings
from itertools import pairwise
from weakref import WeakKeyDictionary

from matplotlib.figure import Figure
from PIL import Image

_DPI = 150
# The largest side of a picture in a page, in pixels; colours of lines, bars and shades.
_LARGEST, _COLOURS = 1_500, 48
# What is wider than this, as a share of its height, is cut between its panels.
_WIDE = 1.8
# Inches that savefig leaves around a figure.
_PAD = 0.1
# The same around a panel that is cut out.
_MARGIN = 0.04
# Brighter than this is the paper.
_WHITE = 248

Picture = tuple[str, int]

_drawn: WeakKeyDictionary[Figure, bytes] = WeakKeyDictionary()
_embedded: WeakKeyDictionary[Figure, list[Picture]] = WeakKeyDictionary()


def draw(figure: Figure) -> bytes:
    """Draw a figure as PNG at 150 dpi, or return what was drawn of it before."""
    if figure not in _drawn:
        buffer = io.BytesIO()
        with warnings.catch_warnings():
            # Names of labels may have characters that matplotlib's font lacks, such as emoji: each
            # becomes a box.
            warnings.filterwarnings("ignore", r"Glyph \d+ .*missing from font")
            figure.savefig(buffer, format="png", dpi=_DPI, bbox_inches="tight", pad_inches=_PAD)
        _drawn[figure] = buffer.getvalue()
    return _drawn[figure]


def embed(figure: Figure) -> list[Picture]:
    """Return small pictures of a figure as URIs that hold them, each with its width in pixels.

    A wide figure with panels beside each other gives a picture for each: a narrow screen shows one
    under the other.
    """
    if figure not in _embedded:
        with Image.open(io.BytesIO(draw(figure))) as image:
            image.load()
            _embedded[figure] = [_encode(part) for part in _cut(figure, image)]
    return _embedded[figure]


def _cut(figure: Figure, image: Image.Image) -> list[Image.Image]:
    panels = figure.axes
    if len(panels) < 2 or figure.legends or image.width < _WIDE * image.height:
        return [image]
    own = [axes.get_position() for axes in panels]
    if not all(one.x1 <= other.x0 for one, other in pairwise(own)):
        return [image]
    whole = figure.get_tightbbox()
    found = []
    for axes in panels:
        box = axes.get_tightbbox()
        assert box is not None
        left, right = (value / figure.dpi - whole.x0 + _PAD for value in (box.x0, box.x1))
        bottom, top = (value / figure.dpi - whole.y0 + _PAD for value in (box.y0, box.y1))
        height = image.height / _DPI
        inches = [
            left - _MARGIN, height - top - _MARGIN, right + _MARGIN, height - bottom + _MARGIN,
        ]  # fmt: skip
        found.append(image.crop([round(value * _DPI) for value in inches]))  # type: ignore[arg-type] # four
    return found


def _encode(image: Image.Image) -> Picture:
    scale = _LARGEST / max(image.size)
    plain = Image.new("RGB", image.size, "white")
    plain.paste(image, mask=image if image.mode == "RGBA" else None)
    if scale < 1:
        size = round(image.width * scale), round(image.height * scale)
        plain = plain.resize(size, Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    few = plain.quantize(_COLOURS, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
    # Nearest colours are not exact, and the paper must be white.
    shades = few.getpalette() or []
    colours = [shades[place : place + 3] for place in range(0, len(shades), 3)]
    white = [[255] * 3 if min(colour) >= _WHITE else colour for colour in colours]
    few.putpalette([value for colour in white for value in colour])
    few.save(buffer, format="PNG", optimize=True)
    content = base64.b64encode(buffer.getvalue()).decode()
    return f"data:image/png;base64,{content}", plain.width
