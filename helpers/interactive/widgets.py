"""The explorer and the stepper as ipywidgets: thin shells over `explorer` and `stepper`.

Only what ipywidgets 7.7.1 (Colab) and 8 both have is used.
"""

from __future__ import annotations

import html
import io

import ipywidgets as w

from .. import plotting
from ..errors import PhotoError
from ..methods import RULES
from ..networks.images import SAMPLES, remarks, sample
from ..networks.models import Model
from .explorer import CHOICES, COLOURS, SCALES, Explorer
from .panels import STYLE, Panel, board, data_address, track
from .stepper import describe, frame, headline, panels_of, stops, walk


def uploaded(value) -> bytes | None:
    """The bytes of the newest file in ``FileUpload.value``.

    That is a dict by name in ipywidgets 7, and a tuple of dicts in 8.
    """
    files = list(value.values()) if isinstance(value, dict) else list(value)
    return bytes(files[-1]["content"]) if files else None


def row(*widgets) -> w.HBox:
    """Widgets side by side, where there is room for them."""
    return w.HBox(widgets, layout=w.Layout(flex_flow="row wrap"))


class ExplorerView:
    """The explorer on the screen; ``.box`` is the widget, ``.state`` the :class:`Explorer`."""

    def __init__(self, model: Model) -> None:
        self.state = Explorer(model)
        self.sample = w.Dropdown(options=SAMPLES, description="Sample")
        self.upload = w.FileUpload(
            accept="image/*",
            multiple=False,
            description="Upload a photo",
            layout=w.Layout(width="auto"),
        )
        self.buttons = [w.Button(layout=w.Layout(width="auto")) for _ in self.state.top]
        self.typed = w.Text(
            description="Any class", placeholder="type a name, press Enter", continuous_update=False
        )
        self.method = w.Dropdown(options=CHOICES, description="Method")
        self.layer = w.Dropdown(options=self.state.layers(), description="Layer")
        self.opacity = w.FloatSlider(0.7, min=0, max=1, step=0.05, description="Opacity")
        self.colours = w.Dropdown(options=COLOURS, description="Colours")
        self.scale = w.Dropdown(options=list(SCALES), description="Scale")
        self.second = w.Dropdown(description="Beside it")
        self.save = w.Button(description="Save as PNG")
        self.message, self.pictures, self.link = w.HTML(), w.HTML(), w.HTML()
        for i, button in enumerate(self.buttons):
            button.on_click(lambda _, i=i: self.choose(self.state.top[i][0]))
        self.sample.observe(
            lambda change: change["new"] and self.load(sample(change["new"])), "value"
        )
        self.upload.observe(self._uploaded, "value")
        self.typed.observe(self._typed, "value")
        for control in (
            self.method,
            self.layer,
            self.opacity,
            self.colours,
            self.scale,
            self.second,
        ):
            control.observe(lambda _: self.draw(), "value")
        self.save.on_click(lambda _: self.make_file())
        self.box = w.VBox(
            [
                row(self.sample, self.upload),
                row(*self.buttons),
                row(self.typed, self.second),
                row(self.method, self.layer),
                row(self.opacity, self.colours, self.scale),
                self.message,
                self.pictures,
                row(self.save, self.link),
            ]
        )
        self._quiet = False
        self._new_photo()

    def say(self, words: str = "") -> None:
        """A sentence for the reader, in place of the last one."""
        self.message.value = (
            f'<p role="status" style="color:{plotting.CONTRAST}">{html.escape(words)}</p>'
            if words
            else ""
        )

    def load(self, photo) -> bool:
        """Another photo, if it can be taken; else it is said why, and all stays as it was."""
        try:
            self.state.load(photo)
        except PhotoError as error:
            self.say(str(error))
            return False
        self.say()
        self._new_photo()
        return True

    def choose(self, c: int) -> None:
        self.c = c
        self.say()
        self.draw()

    def _new_photo(self) -> None:
        top = self.state.top
        for button, (_, name, probability) in zip(self.buttons, top, strict=True):
            button.description = f"{name} {probability:.0%}"
        self.c = top[0][0]
        self._quiet = True  # new options change the value, which would draw once too often
        self.second.options = [("nothing", -1), *((name, i) for i, name, _ in top)]
        self.second.value, self._quiet = -1, False
        self.draw()

    def _uploaded(self, change) -> None:
        content = uploaded(change["new"])
        if content is not None and self.load(content):
            self.say(" ".join(remarks(content)))
            self.sample.value = None  # so that each sample can be chosen again

    def _typed(self, change) -> None:
        if change["new"].strip():
            try:
                self.choose(self.state.find(change["new"]))
            except KeyError as error:
                self.say(error.args[0])

    def classes(self) -> list[int]:
        """The class asked for, and the one beside it, if any."""
        return [self.c] + [self.second.value] * (
            self.second.value is not None and self.second.value >= 0
        )

    def panels(self) -> list[Panel]:
        """The photo, and the map of each class, as shown."""
        asked = {"method": self.method.value, "layer": self.layer.value}
        look = {
            "opacity": self.opacity.value,
            "colours": self.colours.value,
            "scale": self.scale.value,
        }
        maps = [
            (self.state.describe(c, **asked), self.state.picture(c, **asked, **look))
            for c in self.classes()
        ]
        return [
            Panel(words, pictures=[(words, picture)], large=True)
            for words, picture in [("The photo, as the network sees it", self.state.seen), *maps]
        ]

    def draw(self) -> None:
        if self._quiet:
            return
        self.layer.disabled = self.method.value != CHOICES[0]
        self.link.value = ""
        note = (
            f"Map {SCALES[self.scale.value]}. "
            f"Opacity {self.opacity.value:.2f}: 0 is the photo, 1 the map."
        )
        self.pictures.value = f'{STYLE}<div class="player">{board(self.panels(), words=note)}</div>'

    def make_file(self) -> bytes:
        """The figure as a PNG, offered as a link that saves it, in Jupyter and in Colab alike."""
        titles, pictures = zip(*(panel.pictures[0] for panel in self.panels()), strict=True)
        file = io.BytesIO()
        figure = plotting.show_row(
            pictures,
            [t.replace(" for ", "\nfor ") for t in titles],
            note=f"Map {SCALES[self.scale.value]}.",
        )
        figure.savefig(file)
        plotting.plt.close(figure)
        self.link.value = (
            f'<a download="explained.png" href="{data_address(file.getvalue())}">explained.png</a>'
        )
        return file.getvalue()


class StepperView:
    """The stepper on the screen; ``.box`` is the widget."""

    def __init__(self, model: Model, x, c: int | None = None) -> None:
        self.way, self.c = walk(model.network, x, model.preprocess), c
        self.step = w.IntSlider(
            0, min=0, max=self.way.last_step, description="Step", continuous_update=True
        )
        self.rule = w.Dropdown(options=list(RULES), value="guided", description="ReLU rule")
        self.back, self.on = w.Button(description="Back"), w.Button(description="Next")
        self.picture = w.HTML()
        self.back.on_click(lambda _: self.move(-1))
        self.on.on_click(lambda _: self.move(1))
        for control in (self.step, self.rule):
            control.observe(lambda _: self.draw(), "value")
        self.box = w.VBox([row(self.rule, self.step, self.back, self.on), self.picture])
        self.draw()

    def move(self, steps: int) -> None:
        self.step.value = min(max(self.step.value + steps, 0), self.way.last_step)

    def draw(self) -> None:
        shot = frame(self.way, self.step.value, self.rule.value, self.c)
        where = track(stops(self.way), shot.step)
        shown = board(panels_of(shot), headline(shot), describe(shot))
        self.picture.value = f'{STYLE}<div class="player">{where}{shown}</div>'


def explorer_widget(model: Model):
    """The explorer for a model, to stand last in a cell."""
    return ExplorerView(model).box


def stepper_widget(model: Model, x, c: int | None = None):
    """The stepper for one photo ``(1, 3, H, W)`` and, if given, one class.

    See :func:`helpers.interactive.stepper.frame`.
    """
    return StepperView(model, x, c).box
