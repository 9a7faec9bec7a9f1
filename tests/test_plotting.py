"""Figures show what their arrays say, and nothing else."""

import io
import json
from itertools import pairwise

import matplotlib
import numpy as np
import pytest
from matplotlib import pyplot as plt
from PIL import Image

from helpers import heat_map, overlay, show_bars, show_curves, show_probabilities, show_row
from helpers.plotting import ACCENT, LINES, PALE, check_picture

GREY = np.random.default_rng(0).random((6, 8))
PHOTO = np.random.default_rng(1).random((6, 8, 3))


@pytest.mark.parametrize("colours", ["jet", "viridis"])
def test_heat_map_equals_a_loop_over_the_pixels(colours):
    table, want = matplotlib.colormaps[colours], np.zeros((6, 8, 3))
    for i in range(6):
        for j in range(8):
            want[i, j] = table(round(GREY[i, j] * 255) / 255)[:3]
    np.testing.assert_allclose(heat_map(GREY, colours), want, atol=1e-12)


def test_heat_map_goes_from_blue_to_red():
    low, high = heat_map(np.array([[0.0, 1.0]]))[0]
    assert low.argmax() == 2 and high.argmax() == 0


@pytest.mark.parametrize("opacity", [0, 0.25, 0.7, 1])
def test_overlay_is_a_weighted_mean(opacity):
    np.testing.assert_allclose(
        overlay(PHOTO, GREY, opacity), (1 - opacity) * PHOTO + opacity * heat_map(GREY)
    )


def test_overlay_takes_the_originals_blend_and_even_colours_unless_told():
    np.testing.assert_array_equal(overlay(PHOTO, GREY), overlay(PHOTO, GREY, 0.7, "viridis"))


@pytest.mark.parametrize(
    "values, opacity, message",
    [
        (GREY[:5], 0.7, "differ in size; resize the map first"),
        (PHOTO, 0.7, "differ in size"),
        (GREY, 1.1, "share from 0 to 1"),
        (GREY, float("nan"), "share from 0 to 1"),
        (GREY * 2, 0.7, "scale the map first"),
    ],
)
def test_overlay_refuses_what_does_not_fit(values, opacity, message):
    with pytest.raises(ValueError, match=message):
        overlay(PHOTO, values, opacity)


@pytest.mark.parametrize(
    "picture, message",
    [
        (np.full((4, 4), 1.01), r"must lie in \[0, 1\]"),
        (np.full((4, 4), -0.01), r"must lie in \[0, 1\]"),
        (np.full((4, 4), np.nan), r"must lie in \[0, 1\]"),
        (np.zeros((1, 4, 4)), r"got \(1, 4, 4\)"),
        (np.zeros((4, 4, 4)), r"got \(4, 4, 4\)"),
        (np.zeros(4), r"got \(4,\)"),
    ],
)
def test_what_is_no_picture_is_refused(picture, message):
    for show in (check_picture, lambda p: show_row([p], ["title"])):
        with pytest.raises(ValueError, match=message):
            show(picture)


@pytest.mark.parametrize(
    "count, columns, grid", [(1, 4, (1, 1)), (3, 4, (1, 3)), (5, 3, (2, 3)), (4, 4, (1, 4))]
)
def test_show_row_draws_its_pictures_value_for_value(count, columns, grid):
    pictures, titles = (
        [GREY * 0.5, PHOTO, GREY, PHOTO * 0.3, GREY * 0.1][:count],
        list("abcde")[:count],
    )
    figure = show_row(pictures, titles, note="scaled so", columns=columns)
    figure.canvas.draw()
    assert figure.axes[0].get_subplotspec().get_gridspec().get_geometry() == grid
    drawn = [axis for axis in figure.axes if axis.images]
    assert [axis.get_title() for axis in drawn] == titles
    for axis, picture in zip(drawn, pictures, strict=True):
        (image,) = axis.images
        np.testing.assert_array_equal(image.get_array(), picture)
        assert (
            image.get_clim() == (0, 1)
            and image.get_cmap().name == "gray"
            and image.get_interpolation() == "nearest"
        )
    assert figure.get_supxlabel() == "scaled so"


def test_a_grey_of_half_is_drawn_as_grey_of_half():
    figure = show_row([np.full((8, 8), 0.5)], [""])
    figure.canvas.draw()
    shown = np.asarray(figure.canvas.buffer_rgba())
    middle = figure.axes[0].get_window_extent()
    assert shown[
        int(shown.shape[0] - (middle.y0 + middle.y1) / 2), int((middle.x0 + middle.x1) / 2), :3
    ].tolist() in ([127] * 3, [128] * 3)


def test_show_row_takes_an_array_of_pictures():
    assert len(show_row(np.stack([GREY, GREY]), ["a", "b"]).axes) == 2


@pytest.mark.parametrize("pictures, titles", [([GREY], []), ([], []), ([GREY], ["a", "b"])])
def test_every_picture_needs_a_title(pictures, titles):
    with pytest.raises(ValueError, match="need as many titles"):
        show_row(pictures, titles)


def test_probabilities_are_bars_as_long_as_they_are_likely():
    # ImageNet has two classes of this name
    top = [("crane", 0.75), ("crane", 0.2), ("goose", 0.05)]
    figure = show_probabilities(top, "what is it?")
    figure.canvas.draw()
    (axis,) = figure.axes
    assert [bar.get_width() for bar in axis.patches] == pytest.approx([75, 20, 5])
    assert len({bar.get_y() for bar in axis.patches}) == 3
    assert [label.get_text() for label in axis.get_yticklabels()] == ["crane", "crane", "goose"]
    assert [text.get_text() for text in axis.texts] == ["75 %", "20 %", "5 %"]
    assert axis.get_title() == "what is it?" and axis.yaxis_inverted()
    first, *rest = [matplotlib.colors.to_hex(bar.get_facecolor()) for bar in axis.patches]
    assert first == ACCENT and ACCENT not in rest


def test_figures_leave_matplotlibs_settings_alone():
    before = dict(matplotlib.rcParams)
    show_row([GREY], ["a"])
    show_probabilities([("cat", 1.0)])
    assert dict(matplotlib.rcParams) == before and len(plt.get_fignums()) == 2


@pytest.mark.parametrize("places", [[0, 0.5, 1], ["a", "b", "c"]])
def test_curves_are_drawn_value_for_value_in_the_methods_colours(places):
    panels = [
        {"Grad-CAM": [1, 2, 3], "other": [3, np.nan, 1]},
        {"Grad-CAM": [0, 0, 0], "other": [1, 1, 1]},
    ]
    figure = show_curves(
        panels, ["left", "right"], places, xlabel="share", ylabel="p", note="so", limits=(-1, 4)
    )
    figure.canvas.draw()
    assert [axis.get_title() for axis in figure.axes] == [
        "left",
        "right",
    ] and figure.get_supxlabel() == "so"
    for axis, curves in zip(figure.axes, panels, strict=True):
        lines = {line.get_label(): line for line in axis.lines}
        for name, values in curves.items():
            np.testing.assert_array_equal(lines[name].get_ydata(), values)
            assert lines[name].get_xdata().tolist() == (
                [0, 1, 2] if isinstance(places[0], str) else places
            )
        assert lines["Grad-CAM"].get_color() == LINES["Grad-CAM"][0] and axis.get_ylim() == (-1, 4)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["Grad-CAM", "other"]


def test_no_two_curves_look_alike_and_one_looks_the_same_in_all_charts():
    charts = [{"mine": [1, 2], "gradient": [2, 1]}, {"yours": [1, 1], "mine": [2, 2]}]
    figure = show_curves(charts, ["left", "right"], [0, 1])
    looks = [
        {line.get_label(): (line.get_color(), line.get_marker()) for line in axis.lines}
        for axis in figure.axes
    ]
    assert looks[0]["gradient"] == LINES["gradient"][:2] and looks[0]["mine"] == looks[1]["mine"]
    together = {name: look for chart in looks for name, look in chart.items() if name[0] != "_"}
    assert len(set(together.values())) == len(together) == 3
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == ["mine", "gradient", "yours"]


def test_names_are_no_mathematics():
    figure = show_row([np.eye(4)] * 2, ["US$ or CA$ coin", r"$\frac{$"], "$\\frac{$")
    figure.savefig(io.BytesIO())
    assert not any(axis.title.get_parse_math() for axis in figure.axes)


@pytest.mark.parametrize("backend", ["svg", "pdf"])
def test_a_figure_can_be_drawn_as_lines(backend):
    before = matplotlib.get_backend()
    plt.switch_backend(backend)
    try:
        show_row([np.eye(4)], ["one"]).savefig(drawn := io.BytesIO(), format=backend)
    finally:
        plt.switch_backend(before)
    assert len(drawn.getvalue()) > 1000


@pytest.mark.parametrize("places", [[0, 0.5, 1], ["a", "b", "c"]])
def test_several_runs_are_a_mean_in_a_band_of_their_deviation(places):
    runs = [[1, 2, np.nan], [3, 6, 5]]
    figure = show_curves([{"Grad-CAM": runs, "one": [1, 1, 1]}], ["a"], places)
    (axis,) = figure.axes
    lines = {line.get_label(): line.get_ydata() for line in axis.lines}
    np.testing.assert_array_equal(lines["Grad-CAM"], [2, 4, 5])
    np.testing.assert_array_equal(lines["one"], [1, 1, 1])
    (band,) = axis.collections  # a single run has none
    corners = band.get_paths()[0].vertices
    low, high = [2 - 1, 4 - 2, 5], [2 + 1, 4 + 2, 5]
    for place, *edges in zip(axis.lines[0].get_xdata(), low, high, strict=True):
        assert set(corners[corners[:, 0] == place, 1]) == set(edges)


def test_bars_have_their_values_errors_and_chance():
    panels = [
        {"Grad-CAM": (40.0, 2.0), "centre": (30.0, 1.0)},
        {"Grad-CAM": (20.0, 2.0), "centre": (50.0, 1.0)},
    ]
    figure = show_bars(panels, ["all", "small"], chance=[25, 10], xlabel="%")
    figure.canvas.draw()
    for axis, rows, chance in zip(figure.axes, panels, (25, 10), strict=True):
        assert [bar.get_width() for bar in axis.patches] == [value for value, _ in rows.values()]
        assert axis.lines[-1].get_xdata() == [chance, chance] and axis.yaxis_inverted()
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == [
        "Grad-CAM",
        "centre",
    ]


def test_a_bar_has_the_colour_of_what_its_name_begins_with_and_long_names_are_broken():
    names = ["Grad-CAM before pooling, of all", "Guided Grad-CAM", "before Grad-CAM", "Grad-CAM++"]
    figure = show_bars([{name: (1.0, 0.1) for name in names}], ["a"])
    got = [matplotlib.colors.to_hex(bar.get_facecolor()) for bar in figure.axes[0].patches]
    assert got == [LINES["Grad-CAM"][0].lower(), LINES["Guided Grad-CAM"][0].lower(), PALE, PALE]
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert labels == ["Grad-CAM before\npooling, of all", *names[1:]]


@pytest.mark.parametrize("show", [lambda p, t: show_curves(p, t, [0]), show_bars])
def test_every_panel_needs_a_title(show):
    with pytest.raises(ValueError, match="need as many titles"):
        show([{"a": [1]}], [])


# ------------------------------------------------------------ where the site may cut a chart

#: What letters of each colour are like, grey at their edges: channels that are 255, and equal ones.
RED, GREEN, BLUE, PINK = "#ff0000", "#00ff00", "#0000ff", "#ff00ff"


def letters(pixels, colour):
    """Where a picture ``(H, W, 3)`` has letters of a pure colour on white."""
    full = np.array(matplotlib.colors.to_rgb(colour)) == 1
    rest = pixels[..., ~full]
    return (pixels[..., full] == 255).all(-1) & (rest < 255).all(-1) & (np.ptp(rest, axis=-1) == 0)


def within(pixels, box):
    left, top, wide, high = box
    assert left >= 0 and top >= 0 and wide > 0 and high > 0
    return pixels[top : top + high, left : left + wide]


def saved(figure, path):
    """The words that a figure's PNG carries, and its pixels."""
    figure.savefig(path, bbox_inches="tight")
    with Image.open(path) as picture:
        return json.loads(picture.info["Description"]), np.asarray(picture.convert("RGB"))


def draw_bars():
    rows = {"Guided Grad-CAM before pooling": (80.0, 2.0), "centre": (3.0, 1.0), "c": (99.0, 0.1)}
    titles = ["begins further left", "b", "c\nc"]
    figure = show_bars([rows, dict(rows), rows], titles, [9] * 3, "%", "so")
    figure.axes[0].title.set_x(0.2)
    figure.axes[0].set_xticks([0, 60], ["wide, and below", "more"])
    return figure


def draw_curves():
    curves = {"Grad-CAM": [1, 2, 3], "guided backpropagation": [3, 2, 1], "edges": [2, 2, 0.5]}
    names = ["a place", "another", "and one"]
    return show_curves([curves, curves], ["one", "two"], names, "x", "up", limits=(0, 3))


@pytest.mark.parametrize("draw", [draw_bars, draw_curves])
def test_a_chart_says_where_its_panels_and_the_words_of_its_y_axis_lie(draw, tmp_path):
    figure = draw()
    for axis, colour in zip(figure.axes, (RED, GREEN, BLUE), strict=False):
        axis.title.set_color(colour)
        axis.xaxis.label.set_color(colour)
        axis.tick_params(axis="x", labelcolor=colour)
    figure.axes[0].tick_params(axis="y", labelcolor=PINK)
    figure.axes[0].yaxis.label.set_color(PINK)
    words, pixels = saved(figure, tmp_path / "chart.png")
    panels, strip = words["chart"]["panels"], words["chart"]["strip"]
    assert len(panels) == len(figure.axes)
    for panel, colour in zip(panels, (RED, GREEN, BLUE), strict=False):
        count = letters(pixels, colour).sum()
        assert count > 100 and letters(within(pixels, panel), colour).sum() == count
    # together they are everything between the legend and the note, and no cut touches ink
    assert panels[0][0] == 0 and sum(panels[-1][::2]) == pixels.shape[1]
    assert all(sum(one[::2]) == other[0] for one, other in pairwise(panels))
    assert {tuple(panel[1::2]) for panel in panels} == {tuple(panels[0][1::2])}
    assert all(
        (pixels[panels[0][1] : sum(panels[0][1::2]), left] == 255).all() for left, *_ in panels
    )
    assert bool(panels[0][1]) == bool(figure.legends)
    assert sum(panels[0][1::2]) == (words["note_top"] or len(pixels))
    # the strip has the words of the y axis, whole, and nothing else
    pink = letters(pixels, PINK)
    assert strip[0] == 0 and pink.sum() > 100 and within(pink, strip).sum() == pink.sum()
    assert ((within(pixels, strip) < 255).any(-1) == within(pink, strip)).all()


def test_a_chart_says_where_each_entry_of_its_legend_lies(tmp_path):
    figure = draw_curves()
    colours = [RED, GREEN, BLUE]
    for name, colour in zip(figure.legends[0].get_texts(), colours, strict=True):
        name.set_color(colour)
    words, pixels = saved(figure, tmp_path / "chart.png")
    legend = pixels[: words["chart"]["panels"][0][1]].copy()
    entries = words["chart"]["entries"]
    for box, colour, name in zip(entries, colours, figure.legends[0].get_texts(), strict=True):
        entry = within(legend, box)
        count = letters(pixels, colour).sum()
        assert count > 100 and letters(entry, colour).sum() == count
        line = np.array(matplotlib.colors.to_rgb(LINES[name.get_text()][0])) * 255
        assert (np.abs(entry - line).max(-1) < 2).sum() > 20
        entry[:] = 255
    assert (legend == 255).all()  # nothing is in no entry


def test_what_is_not_cut_says_nothing_of_it(tmp_path):
    overlapping = show_bars([{"a": (1, 0)}] * 2, ["wider than there is room for " * 2, ""])
    alone = show_bars([{"a": (1, 0)}], ["a"])
    for figure in (show_row([GREY, GREY], ["a", "b"]), alone, overlapping):
        words, _ = saved(figure, tmp_path / "figure.png")
        assert words["titles"] == [axis.get_title() for axis in figure.axes if axis.images]
        assert not words.get("chart")


def test_a_picture_in_colour_is_no_map():
    with pytest.raises(ValueError, match=r"a map \(H, W\), got \(4, 4, 3\)"):
        heat_map(np.zeros((4, 4, 3)))
