"""Names beside the points of a figure, none of which lies over another."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.transforms import Bbox

from tunetrail.templates import caption

# Where a name may stand: points to the right and above, and how it is aligned there. The first one
# that has room is taken.
_PLACES = (
    (7, 6, "left", "baseline"),
    (7, -6, "left", "top"),
    (-7, 6, "right", "baseline"),
    (-7, -6, "right", "top"),
    (0, 9, "center", "baseline"),
    (0, -9, "center", "top"),
    (9, 0, "left", "center"),
    (-9, 0, "right", "center"),
)
# Points from the middle of a mark to its edge.
_MARK = 4.0


def name_points(
    axes: Axes, x: Sequence[float], y: Sequence[float], names: Sequence[str], *, most: int
) -> None:
    """Write names beside points, those of the first ones first; one without room is left out.

    The figure must have all else that it will have: where there is room depends on its layout.
    """
    figure = axes.get_figure(root=True)
    assert figure is not None
    figure.draw_without_rendering()
    inside, edge = axes.get_window_extent(), _MARK * figure.dpi / 72
    middles = axes.transData.transform([*zip(x, y, strict=True)])
    taken = [Bbox([middle - edge, middle + edge]) for middle in middles]
    if (legend := axes.get_legend()) is not None:
        taken.append(legend.get_window_extent())
    for place, name in zip([*zip(x, y, strict=True)][:most], names, strict=False):
        for right, above, horizontal, vertical in _PLACES:
            written = axes.annotate(
                caption(name), place, xytext=(right, above), textcoords="offset points",
                ha=horizontal, va=vertical, fontsize="small", parse_math=False, in_layout=False,
            )  # fmt: skip
            box = written.get_window_extent()
            is_inside = inside.x0 <= box.x0 and box.x1 <= inside.x1
            is_inside &= inside.y0 <= box.y0 and box.y1 <= inside.y1
            if is_inside and not box.count_overlaps(taken):
                taken.append(box)
                break
            written.remove()
