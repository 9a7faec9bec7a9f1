"""The players' pages in another language: what `helpers.interactive` says is exchanged in its HTML.

The notebooks are executed once, in English. A player's texts are made of the phrases below; what
stands at {0}, {1} may be a phrase itself.
"""

import html
import json
import re
from collections.abc import Callable

PHRASES = (
    # the controls (helpers/interactive/player.py, panels.py, and chapter 5)
    "Back",
    "Next",
    "Step",
    "ReLU rule",
    "Method",
    "Left",
    "Right",
    "The network's layers, one step at a time",
    "One photo, class by class",
    "upper row: up, lower row: down",
    "step {0}: {1}",
    # the panels (helpers/interactive/stepper.py)
    "activation",
    "mask",
    "switches",
    "signal",
    "photo",
    "gradient",
    "guided backpropagation",
    "mask or switches",
    "{0} of channel {1}",
    "a {0} has none",
    "only on the way down",
    "as the network sees it",
    "grey is 0",
    "black is 0",
    "white is kept",
    "all is 0",
    "all channels; black is 0",
    "grey is 0; around it the photo, faded",
    "strongest unit, in the photo",
    "signal so far",
    "finished picture",
    "photo, {0}. {1}",
    "strongest unit, in the photo, {0}. {1}",
    "signal so far, {0}. {1}",
    "finished picture, {0}. {1}",
    # what is said about a step
    "Step 0: the photo, {0}.",
    "Step {0}: up through features[{1}], {2}, to {3}.",
    "Step {0}: down through features[{1}], {2}, to {3}.",
    "Channels x height x width; the tiles are its channels, red, green and blue, normalised.",
    "{0} The large picture is {1}.",
    'the strongest unit of these {0} channels, sent back to the photo under the rule "{1}"',
    'the finished one, under the rule "{0}"',
    "the signal so far, at each place that of the strongest channel",
    "Nothing has to be noted: the weights are there on the way down as well.",
    "It notes its mask, of the same shape: where its input was positive.",
    "It notes its switches: which of the four places of each window held the largest value.",
    "A transposed convolution with the same weights sends the signal on.",
    "Every value goes back to its switch; the other three places of the window get zero.",
    'The rule "{0}": {1}.',
    "keep the signal where the input was positive",
    "keep what is positive in the signal",
    "keep what is positive in the signal, where the input was positive",
    # class by class (chapter 5)
    "Grad-CAM at features[{0}] for '{1}', probability {2}%",
    "{0} for '{1}', probability {2}%",
    "{0}: {1} beside {2}",
)
NOT_SHOWN = re.compile(r"(<(?:script|style)\b.*?</(?:script|style)>)", re.S)
TEXT = re.compile(r"(?<=>)[^<>]+(?=<)")
ATTRIBUTE = re.compile(r'(?<=\s)(alt|title|aria-label)="([^"]*)"')
DATA = re.compile(r'(?<=<script type="application/json">).*?(?=</script>)', re.S)


def speaker(translated: Callable[[str], str]) -> Callable[[str], str]:
    """From a text made of phrases to the same in another language; others stay as they are."""
    patterns = []
    for phrase in PHRASES:
        pattern = re.sub(r"\\\{\d\\\}", "(.+?)", re.escape(phrase))
        patterns.append((re.compile(pattern), translated(phrase)))

    def say(text: str) -> str:
        for pattern, sentence in patterns:
            found = pattern.fullmatch(text)
            if found:
                return sentence.format(*map(say, found.groups()))
        return text

    return say


def translate_player(page: str, say: Callable[[str], str]) -> str:
    """A player's HTML with its texts, alternatives and labels in another language."""

    def text(found: re.Match) -> str:
        words = html.unescape(found[0])
        inner = words.strip()
        return html.escape(words.replace(inner, say(inner)), quote=False) if inner else found[0]

    def attribute(found: re.Match) -> str:
        return f'{found[1]}="{html.escape(say(html.unescape(found[2])), quote=True)}"'

    def data(found: re.Match) -> str:
        content = json.loads(found[0])
        content["texts"] = [say(words) for words in content["texts"]]
        packed = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
        return packed.replace("</", "<\\/")

    parts = NOT_SHOWN.split(page)
    for i, part in enumerate(parts):
        if i % 2:
            parts[i] = DATA.sub(data, part)
        else:
            # a text may begin or end where a script was
            shown = TEXT.sub(text, part)
            parts[i] = ATTRIBUTE.sub(attribute, shown)
    return "".join(parts)
