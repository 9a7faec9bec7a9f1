"""The command line, on good photos and bad ones."""

import io
import json
import os
import re
import signal
import subprocess
import sys
from dataclasses import replace
from types import ModuleType

import numpy as np
import pytest
import torchvision
from matplotlib import pyplot as plt
from PIL import Image
from torch import nn

from helpers import ModelError, ModelUnavailable, Preprocess, load_any, load_model, sample
from helpers.interactive import cli
from helpers.interactive.cli import main

from .chapters import ROOT

OWN = """
from dataclasses import replace
import torch
from torch import nn
from helpers import Model, Preprocess

def network(last):
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), last,
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3),
    )

def make():
    return network(nn.ReLU()), ["cat", "dog", "tiger cat"], Preprocess(48, 40)

def gelu():
    return network(nn.GELU()), ["cat", "dog", "tiger cat"], Preprocess(48, 40)

def only_gelu():
    made = network(nn.GELU())
    made[1] = nn.Identity()
    return made, ["cat", "dog", "tiger cat"], Preprocess(48, 40)

def double():
    return network(nn.ReLU()).double(), ["cat", "dog", "tiger cat"], Preprocess(48, 40)

def half():
    return network(nn.ReLU()).bfloat16(), ["cat", "dog", "tiger cat"], Preprocess(48, 40)

def nameless():
    return network(nn.ReLU())

def model():
    return Model.of(network(nn.ReLU()), name="mine")

def elsewhere():
    made = model()
    return replace(made, network=made.network.to("meta"), device=torch.device("meta"))

def wrong():
    return "resnet50"

def four():
    return network(nn.ReLU()), None, Preprocess(48, 40), "a name"

def fails():
    return network(nn.Linear(1, 1)), None, Preprocess(48, 40)
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where the command is run: two photos, a file that is none, and a network of one's own."""
    (tmp_path / "photos").mkdir()
    sample("chelsea").save(tmp_path / "photos" / "a.jpg")
    sample("coffee").save(tmp_path / "photos" / "b.png")
    (tmp_path / "photos" / "notes.txt").write_text("no photo, and no photo's name")
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff no photo")
    (tmp_path / "mine.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*words, capsys):
    status = main(list(words))
    out, err = capsys.readouterr()
    return status, out, err


def test_a_photo_is_explained(folder, capsys):
    status, out, err = run("photos/a.jpg", capsys=capsys)
    assert status == 0 and not err
    lines = out.splitlines()
    assert lines[0] == "photos/a.jpg" and len(lines) == 7
    shares = [float(line.split("%")[0]) for line in lines[1:6]]
    model = load_model()
    want = [100 * share for _, share in model.top(model.prepare("photos/a.jpg"))[0]]
    assert shares == sorted(shares, reverse=True) == pytest.approx(want, abs=0.051)
    top = lines[1].split("%")[1].strip()
    assert lines[6] == f"  -> explained/a.png ({top})"
    figure = np.asarray(Image.open("explained/a.png").convert("RGB")).astype(int)
    assert np.ptp(figure, axis=2).max() > 100  # a heat map is colourful
    words = json.loads(Image.open("explained/a.png").info["Description"])
    assert words["titles"] == [top, "Grad-CAM", "guided backpropagation", "Guided Grad-CAM"]
    assert "embedded, Grad-CAM at features" in words["note"]


def test_it_runs_as_a_module(folder):
    done = subprocess.run(
        [sys.executable, "-m", "helpers", "photos/a.jpg", "broken.jpg", "--out", "maps"],
        env={"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "PATH": ""},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "photos/a.jpg" in done.stdout and (folder / "maps" / "a.png").exists()
    assert done.stderr.startswith("explain: broken.jpg: broken.jpg could not be read as a picture")
    assert "Traceback" not in done.stderr


def test_bad_photos_are_named_and_the_others_explained(folder, capsys):
    status, out, err = run(
        "broken.jpg", "no.jpg", "none/*.jpg", "photos", "photos/*.png", "mine.py",
        "--model", "mine.py:make", capsys=capsys,
    )  # fmt: skip
    assert status == 1
    complaints = err.splitlines()
    assert [line.split(": ")[1] for line in complaints] == [
        "broken.jpg",
        "no.jpg",
        "none/*.jpg",
        "mine.py",
    ]
    assert "There is no file no.jpg" in complaints[1] and "no photo in it" in complaints[2]
    written = [line.split()[1] for line in out.splitlines() if "->" in line]
    assert written == ["explained/a.png", "explained/b.png", "explained/b-2.png"]
    assert all((folder / path).exists() for path in written)


def test_json_has_a_line_per_photo(folder, capsys):
    words = ["photos", "broken.jpg", "--model", "mine.py:make", "--json", "--top", "2"]
    status, out, _ = run(*words, "--class", "TIGER CAT", "--class", "1", capsys=capsys)
    first, second, third = map(json.loads, out.splitlines())
    assert status == 1 and third["photo"] == "broken.jpg" and "could not be read" in third["error"]
    assert [first["photo"], second["photo"]] == ["photos/a.jpg", "photos/b.png"]
    assert first["explained"] == ["tiger cat", "dog"] and first["layer"] == ["3"]
    assert len(first["top"]) == 2 and first["figure"] == "explained/a.png"
    assert first["top"][0]["class"] == ["cat", "dog", "tiger cat"][first["top"][0]["index"]]
    model = load_any("mine.py:make")
    want = [
        (name, round(share, 6)) for name, share in model.top(model.prepare("photos/a.jpg"), 2)[0]
    ]
    assert [(row["class"], row["probability"]) for row in first["top"]] == want
    titles = json.loads(Image.open("explained/b.png").info["Description"])["titles"]
    assert len(titles) == 8 and titles[0] == "tiger cat" and titles[4] == "dog"


def test_no_figure_is_written_over_a_photo(folder, capsys):
    Image.new("RGB", (40, 40), "green").save("photos/a.png")
    before = {path: path.read_bytes() for path in (folder / "photos").glob("*.png")}
    words = ["photos", "--model", "mine.py:make", "--out", "photos/../photos"]
    status, out, _ = run(*words, capsys=capsys)
    assert status == 0 and len(before) == 2
    assert {path: path.read_bytes() for path in before} == before
    written = [line.split()[1] for line in out.splitlines() if "->" in line]
    assert [name.rpartition("/")[2] for name in written] == ["a-2.png", "a-3.png", "b-2.png"]


def written(out):
    return [line.split()[1] for line in out.splitlines() if "->" in line]


def test_only_its_own_figures_are_written_anew(folder, capsys):
    words = ["photos/a.jpg", "--model", "mine.py:make", "--out", "."]
    for _ in range(2):
        assert written(run(*words, capsys=capsys)[1]) == ["a.png"]
    sample("rocket").save("a.png")  # a photo that is not explained
    Image.open("a.png").save("a-2.png", pnginfo=None)
    (folder / "a-3.png").write_text("no picture")
    (folder / "a-4.png").mkdir()
    before = {path: path.read_bytes() for path in folder.glob("a*.png") if path.is_file()}
    for _ in range(2):
        assert written(run(*words, capsys=capsys)[1]) == ["a-5.png"]
    assert len(before) == 3 and all(path.read_bytes() == was for path, was in before.items())
    figure = (folder / "a-5.png").read_bytes()
    words[0] = "a-5.png"  # a figure may be a photo, too
    assert written(run(*words, capsys=capsys)[1]) == ["a-5-2.png"]
    words[0] = "./a-5.png"
    (folder / "a-5-2.png").unlink()
    run(*words, capsys=capsys)
    assert (folder / "a-5.png").read_bytes() == figure


def test_odd_folders(folder, capsys, monkeypatch):
    odd = folder / "odd"
    (odd / "folder.jpg").mkdir(parents=True)
    for name in ("._b.png", "paper.pdf", "notes.txt"):
        (odd / name).write_text("no photo")
    os.mkfifo(odd / "pipe.png")
    words = ["--model", "mine.py:make"]
    status, out, err = run("odd", *words, capsys=capsys)
    assert status == 1 and not out and err == "explain: odd: There is no photo in it.\n"
    sample("coffee").save(odd / "Big.JPG", "jpeg")
    status, out, err = run("odd", *words, capsys=capsys)
    assert status == 0 and out.startswith("odd/Big.JPG\n") and len(written(out)) == 1

    def locked(path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.iterdir", locked)
    status, out, err = run("odd", "photos/a.jpg", *words, capsys=capsys)
    assert status == 1 and written(out) == ["explained/a.png"]
    assert err == "explain: odd: It cannot be read (Permission denied).\n"


def test_odd_pictures(folder, capsys):
    photo = sample("chelsea").resize((60, 50))
    grey = np.asarray(photo.convert("L"))
    Image.new("RGB", (1, 1)).save("one.png")
    photo.convert("RGBA").save("rgba.png")
    photo.convert("CMYK").save("cmyk.jpg")
    Image.fromarray(grey.astype(np.uint16) * 257).save("deep.png")
    photo.save("moves.gif", save_all=True, append_images=[photo.rotate(90)])
    names = ["one.png", "rgba.png", "cmyk.jpg", "deep.png", "moves.gif"]
    status, out, err = run(*names, "--model", "mine.py:make", capsys=capsys)
    assert status == 1 and len(err.splitlines()) == 1 and "one.png: " in err and "1x1" in err
    assert len(written(out)) == 4


def command(*words, **more):
    return subprocess.Popen(
        [sys.executable, "-m", "helpers", *words, "--model", "mine.py:make"],
        env={"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # where the tests run in the background, Ctrl-C is ignored, and children inherit that
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        **more,
    )


def test_a_reader_that_has_enough_is_no_error(folder):
    process = command("photos")
    process.stdout.close()  # as "| head" does, only at once
    assert process.stderr.read() == "" and process.wait() == 141
    process.stderr.close()


def test_it_can_be_stopped(folder):
    (folder / "mine.py").write_text("import time\nprint(flush=True)\ntime.sleep(60)")
    process = command("photos")
    assert process.stdout.readline() == "\n"
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130 and err == "explain: stopped.\n"


def test_classes_are_listed(folder, capsys):
    status, out, _ = run("--classes", "--model", "mine.py:make", capsys=capsys)
    assert status == 0 and out.split("\n")[2].split() == ["2", "tiger", "cat"]
    _, out, _ = run("--classes", "--model", "mine.py:make", "--json", capsys=capsys)
    assert json.loads(out.splitlines()[1]) == {"class": "dog", "index": 1}
    with pytest.raises(SystemExit) as stop:
        main(["--model", "mine.py:make"])
    assert stop.value.code == 2 and "name a PHOTO" in capsys.readouterr().err


def test_a_file_with_a_network_is_run_as_python_runs_it(folder, capsys):
    """It finds its neighbours, and itself."""
    (folder / "code").mkdir()
    (folder / "code" / "neighbour.py").write_text((folder / "mine.py").read_text())
    (folder / "code" / "own.py").write_text(
        "from __future__ import annotations\n"
        "from dataclasses import dataclass\n"
        "from neighbour import make\n"
        "from this import better\n"  # of two modules of a name the neighbour
        "@dataclass\nclass Options:\n    width: int = 3\n"
        "def fails():\n    raise KeyError('weights.pt')\n"
    )
    (folder / "code" / "this.py").write_text("better = True\n")
    path = list(sys.path)
    assert run("photos/a.jpg", "--model", "code/own.py:make", capsys=capsys)[0] == 0
    status, _, err = run("photos/a.jpg", "--model", "code/own.py:fails", capsys=capsys)
    assert status == 1 and err == ("explain: code/own.py cannot be run: KeyError: 'weights.pt'\n")
    assert sys.path == path


def test_a_second_file_has_neighbours_of_its_own(folder):
    for name, width in (("one", 8), ("two", 16)):
        (folder / name).mkdir()
        (folder / name / "net.py").write_text(f"width = {width}\n")
        (folder / name / "own.py").write_text(
            "from torch import nn\nfrom net import width\n"
            "def make():\n    return nn.Sequential(nn.Conv2d(3, width, 3), nn.ReLU(),"
            "nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 2))\n"
        )
    for name, width in (("one", 8), ("two", 16), ("one", 8)):
        assert load_any(f"{name}/own.py:make", "cpu").network[0].out_channels == width


def test_another_size_keeps_what_is_cut_off_its_share():
    for old, want in [
        (Preprocess(256, 224), (128, 112)),
        (Preprocess((256, 288), 224), ((128, 144), 112)),
        (Preprocess(256, (224, 192)), (149, 112)),
    ]:
        new = cli._resized(replace(load_model(device="cpu"), preprocess=old), 112).preprocess
        assert (new.resize, new.crop) == want


def test_a_link_is_not_followed_and_one_in_a_circle_ends_nothing(folder, capsys):
    (folder / "loop.png").symlink_to("loop.png")
    (folder / "o").mkdir()
    (folder / "o" / "a.png").symlink_to("../elsewhere.png")
    words = ("loop.png", "photos/a.jpg", "--out", "o", "--model", "mine.py:make")
    status, out, err = run(*words, capsys=capsys)
    assert status == 1 and "loop.png" in err and "-> o/a-2.png" in out
    assert not (folder / "elsewhere.png").exists()
    before = (folder / "o" / "a-2.png").read_bytes()
    (folder / "o" / "a.png").unlink()
    (folder / "o" / "a.png").symlink_to("a-2.png")  # a figure of its own, and yet a link
    other = (*words[1:], "--opacity", "0.2")
    assert "-> o/a-2.png" in run(*other, capsys=capsys)[1]
    assert (folder / "o" / "a.png").is_symlink()
    assert (folder / "o" / "a-2.png").read_bytes() != before


def test_a_figure_that_cannot_be_written_ends_nothing(folder, capsys):
    name = "a" * 251
    (folder / "photos" / f"{name}.png").write_bytes((folder / "photos" / "b.png").read_bytes())
    (folder / "explained").mkdir()
    (folder / "explained" / f"{name}.png").write_text("no figure, so a number is put behind it")
    status, out, err = run("photos", "--model", "mine.py:make", capsys=capsys)
    assert status == 1 and "cannot be written (File name too long)" in err
    assert out.count("->") == 2 and not plt.get_fignums()


@pytest.mark.slow
@pytest.mark.parametrize("closed", ["1", "2"])
def test_closed_streams_do_no_harm(folder, closed):
    words = f"exec {closed}>&-; {sys.executable} -m helpers photos --model mine.py:make"
    done = subprocess.run(["sh", "-c", words], env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert done.returncode == 0 and (folder / "explained" / "b.png").exists()


def test_a_model_in_training_mode_is_asked_as_any_other(folder, capsys):
    made = "    made = model()\n    made.network.insert(1, nn.Dropout(0.9))\n"
    modes = ("train", "eval")
    (folder / "mine.py").write_text(
        OWN + "".join(f"def {m}():\n{made}    made.network.{m}()\n    return made\n" for m in modes)
    )
    first, again = (run("photos/a.jpg", "--model", f"mine.py:{m}", capsys=capsys) for m in modes)
    assert first == again and first[0] == 0 and "%" in first[1]


def test_a_name_that_is_no_text_is_no_error(folder):
    name = b"photos/\xff.png"
    (folder / "photos" / "b.png").rename(os.fsdecode(name))
    done = subprocess.run(
        [sys.executable, "-m", "helpers", name, "--model", "mine.py:make"],
        env={"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "PYTHONIOENCODING": "utf-8:strict"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0 and not done.stderr
    assert done.stdout.startswith("photos/\\udcff.png\n")


def test_options_change_what_they_say(folder, capsys):
    base = ["photos/a.jpg", "--model", "mine.py:make", "--class", "dog"]
    pictures = {}
    for name, words in {
        "plain": [],
        "colours": ["--colours", "jet"],
        "opacity": ["--opacity", "0.2"],
        "layer": ["--layer", "1"],
        "layers": ["--layer", "1", "--layer", "3"],
        "cam": ["--cam", "hirescam"],
        "than": ["--than", "cat"],
        "size": ["--size", "64"],
    }.items():
        assert run(*base, *words, capsys=capsys)[0] == 0
        with Image.open("explained/a.png") as figure:
            pictures[name] = np.asarray(figure.convert("RGB"))
    names = list(pictures)
    for i, one in enumerate(names):
        for other in names[:i]:
            assert not np.array_equal(pictures[one], pictures[other]), (one, other)
    status, out, _ = run(*base, "--cam", "HIRESCAM", "--json", capsys=capsys)
    words = json.loads(Image.open("explained/a.png").info["Description"])
    assert words["titles"][1::2] == ["HiResCAM", "Guided HiResCAM"]
    assert "HiResCAM at 3. HiResCAM divided by" in words["note"]
    assert json.loads(out)["cam"] == "HiResCAM"
    assert run(*base, "--method", "gradient", "--method", "deconvnet", capsys=capsys)[0] == 0
    titles = json.loads(Image.open("explained/a.png").info["Description"])["titles"]
    assert titles == ["dog", "gradient", "Deconvnet"]


def test_layers_are_listed(folder, capsys):
    status, out, _ = run("photos/a.jpg", "--model", "mine.py:make", "--layers", capsys=capsys)
    assert status == 0 and [line.split()[:2] for line in out.splitlines()] == [
        ["0", "Conv2d"], ["1", "ReLU"], ["2", "Conv2d"], ["3", "ReLU"],
    ]  # fmt: skip
    assert "8 x 36 x 36" in out and not (folder / "explained").exists()
    words = ["broken.jpg", "photos/a.jpg", "--model", "mine.py:make", "--layers", "--json"]
    status, out, err = run(*words, capsys=capsys)
    first = json.loads(out.splitlines()[1])
    assert status == 1 and "broken.jpg" in err
    assert [first["name"], first["maps"]] == ["0", [8, 38, 38]]


def test_networks_with_other_activations_get_what_they_can(folder, capsys):
    words = ["photos", "--model", "mine.py:gelu"]
    status, out, err = run(*words, capsys=capsys)
    assert status == 0 and err.count("only Grad-CAM") == 1 and "GELU" in err and "--mixture" in err
    titles = json.loads(Image.open("explained/a.png").info["Description"])["titles"]
    assert titles[1:] == ["Grad-CAM"]
    status, out, err = run(*words, "--mixture", capsys=capsys)
    assert status == 0 and not err
    status, out, err = run("photos", "--model", "mine.py:only_gelu", "--mixture", capsys=capsys)
    assert status == 0 and err.count("only Grad-CAM: ") == 1
    assert "has no ReLU between photo and scores, but GELU (once)" in err
    assert "--method gradient" in err and "mixture" not in err and "strict" not in err
    status, out, err = run(*words, "--method", "guided", capsys=capsys)
    assert status == 1 and "GELU" in err and not out


WRONG = {
    "model": (["--model", "lenet"], "no model 'lenet'; choose one of embedded.*FILE.py:FUNCTION"),
    "torchvision's": (
        ["--model", "torchvision:resnet"],
        "no network 'resnet'; did you mean resnet50, resnet34, resnet18[.]",
    ),
    "no name": (["--model", "torchvision:"], "no model 'torchvision:'; choose one of"),
    "no file": (["--model", "yours.py:make"], "no file yours.py"),
    "no function": (["--model", "mine.py:made"], "no function 'made'"),
    "no network": (["--model", "mine.py:wrong"], "gave a str in place of a network"),
    "too much": (["--model", "mine.py:four"], "gave 4 things; a network, class names and"),
    "class": (["--class", "dodo"], "knows no class 'dodo'.* --classes lists them"),
    "a slip": (["--class", "tabyb"], "did you mean tabby[?] --classes lists them"),
    "number": (["--class", "108"], "knows no class '108'"),
    "than alone": (["--than", "tabby"], "needs a --class"),
    "layer": (["--layer", "layer4"], "no layer 'layer4'"),
    "colours": (["--colours", "plaid"], "no colours 'plaid'"),
    "size": (["--size", "0"], "not 0"),
    "great size": (["--size", "100000"], "from 1 to 2048, not 100000"),
    "cam": (["--cam", "webcam"], "no CAM 'webcam'; choose one of Grad-CAM"),
    "opacity": (["--opacity", "1.1"], "from 0 to 1, not 1.1"),
    "no opacity": (["--opacity", "nan"], "from 0 to 1, not nan"),
    "top": (["--top", "0"], "number of classes, not 0"),
    "device": (["--device", "abacus"], "'abacus', which cannot be used"),
}


@pytest.mark.parametrize("words, message", WRONG.values(), ids=WRONG)
def test_wrong_options_are_said_in_a_line(folder, capsys, words, message):
    status, out, err = run("photos/a.jpg", *words, capsys=capsys)
    assert status == 1 and not out and len(err.splitlines()) == 1
    assert __import__("re").search(message, err)


def test_networks_that_cannot_be_asked_are_an_error(folder, capsys):
    status, out, err = run("photos/a.jpg", "--model", "mine.py:fails", capsys=capsys)
    assert status == 1 and not out and "cannot take photos (1, 3, 40, 40)" in err
    status, out, err = run("photos/a.jpg", "--size", "8", capsys=capsys)
    assert status == 1 and not out and "cannot take photos (1, 3, 8, 8)" in err


@pytest.mark.parametrize("name", ["double", "half"])
def test_networks_of_other_floats_are_explained(folder, capsys, name):
    status, out, err = run("photos/a.jpg", "--model", f"mine.py:{name}", capsys=capsys)
    assert status == 0 and not err and written(out) == ["explained/a.png"]


def test_models_of_ones_own(folder, capsys):
    for name, title in (("nameless", "nameless"), ("model", "mine")):
        status, out, _ = run("photos/a.jpg", "--model", f"mine.py:{name}", "--json", capsys=capsys)
        record = json.loads(out)
        assert status == 0 and record["model"] == title and record["top"][0]["class"] in "012"


def test_a_model_of_ones_own_goes_to_the_device_asked_for(folder, monkeypatch, capsys):
    """To "meta", the one other device that there is everywhere."""

    def places(device=None, name="model"):
        model = load_any(f"mine.py:{name}", device)
        return model.device.type, {part.device.type for part in model.network.parameters()}

    monkeypatch.delenv("EXPLAIN_DEVICE", raising=False)
    assert places() == ("cpu", {"cpu"}) and places("meta") == ("meta", {"meta"})
    assert places(name="elsewhere") == ("meta", {"meta"})  # and stays there, if none is asked for
    monkeypatch.setenv("EXPLAIN_DEVICE", "meta")
    assert places() == ("meta", {"meta"}) and places("cpu") == ("cpu", {"cpu"})
    words = ["photos/a.jpg", "--model", "mine.py:model", "--device", "meta"]
    status, out, err = run(*words, capsys=capsys)
    assert (
        status == 1 and not out and "is on the device 'meta', where weights have no values" in err
    )


def test_torchvisions_networks_come_with_names_and_preprocessing(folder, capsys, monkeypatch):
    def random(name, weights):
        assert weights is torchvision.models.ResNet18_Weights.DEFAULT
        return torchvision.models.resnet18(weights=None)

    monkeypatch.setattr(torchvision.models, "get_model", random)
    status, out, _ = run(
        "photos/a.jpg",
        "--model",
        "torchvision:resnet18",
        "--class",
        "tabby",
        "--json",
        capsys=capsys,
    )
    record = json.loads(out)
    assert status == 0 and record["layer"] == ["layer4"] and record["explained"] == ["tabby"]


def test_weights_that_cannot_be_fetched_are_said(folder, capsys, monkeypatch):
    def offline(name, weights):
        raise OSError("no web")

    monkeypatch.setattr(torchvision.models, "get_model", offline)
    status, _, err = run("photos/a.jpg", "--model", "torchvision:resnet18", capsys=capsys)
    assert status == 1 and "torchvision:resnet18 could not be fetched (no web)" in err
    assert issubclass(ModelUnavailable, ValueError)


@pytest.fixture
def timms(monkeypatch):
    """A timm with one network of three classes; the real one's weights need the web."""

    def create_model(name, pretrained):
        assert pretrained and name.startswith("tiny")
        if name == "tiny.offline":
            raise OSError("no web")
        net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        net.append(nn.Linear(4, 3))
        net.pretrained_cfg = {"input_size": (3, 40, 40), "mean": (0.1,) * 3, "std": (0.2,) * 3}
        net.own_names = name == "tiny"
        return net

    class ImageNetInfo:
        def __init__(self, subset):
            assert subset == "three"

        def label_descriptions(self):
            return ["cat", "dog", "cup"]

    def infer_imagenet_subset(network):
        return "three" if network.own_names else None

    timm, data = ModuleType("timm"), ModuleType("timm.data")
    timm.list_models, timm.create_model, timm.data = lambda: ["tiny", "large"], create_model, data
    data.ImageNetInfo, data.infer_imagenet_subset = ImageNetInfo, infer_imagenet_subset
    monkeypatch.setitem(sys.modules, "timm", timm)
    monkeypatch.setitem(sys.modules, "timm.data", data)


def test_timms_networks_come_with_names_and_preprocessing(timms):
    model = load_any("timm:tiny", "cpu")
    assert model.name == "tiny" and model.class_names == ("cat", "dog", "cup")
    x = model.prepare(sample("chelsea"))
    assert x.shape == (1, 3, 40, 40) and 0 < x.max() <= 0.9 / 0.2 and x.min() >= -0.1 / 0.2
    unnamed = load_any("timm:tiny.own_weights", "cpu")
    assert unnamed.class_names == ("0", "1", "2")
    assert unnamed.prepare(sample("chelsea")).shape == x.shape


def test_timms_refusals_say_what_is_missing(timms, monkeypatch):
    with pytest.raises(ModelError, match="timm has no network 'tinny'; did you mean tiny"):
        load_any("timm:tinny", "cpu")
    with pytest.raises(ModelUnavailable, match=r"timm:tiny\.offline could not be fetched \(no web"):
        load_any("timm:tiny.offline", "cpu")
    monkeypatch.setitem(sys.modules, "timm", None)  # as if it were not installed
    with pytest.raises(ModelUnavailable, match="pip install timm"):
        load_any("timm:tiny", "cpu")


def test_help_has_examples(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--help"])
    assert (
        stop.value.code == 0
        and "explain cat.jpg --model torchvision:resnet50" in capsys.readouterr().out
    )


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_bar_shows_on_a_terminal_how_far_it_is(folder, capsys, monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    main(["photos", "broken.jpg", "--model", "mine.py:make"])
    bars = re.findall(r"\[([# ]{20})\] (\d/\d) ([^\r\n]*)(\n?)", sys.stderr.getvalue())
    assert [bar.count("#") for bar, *_ in bars] == [0, 6, 13, 20]
    assert [count for _, count, *_ in bars] == ["0/3", "1/3", "2/3", "3/3"]
    assert [name for *_, name, _ in bars] == ["photos/a.jpg", "photos/b.png", "broken.jpg", ""]
    assert [end for *_, end in bars] == ["", "", "", "\n"]


def test_one_photo_and_no_terminal_have_no_bar(folder, monkeypatch):
    for stream, photos in ((Terminal(), ["photos/a.jpg"]), (io.StringIO(), ["photos"])):
        monkeypatch.setattr(sys, "stderr", stream)
        assert main([*photos, "--model", "mine.py:make"]) == 0
        assert not stream.getvalue()


def test_pixel_maps_need_no_layer(folder, capsys):
    (folder / "flat.py").write_text(
        OWN
        + """
def flat():
    torch.manual_seed(0)
    parts = nn.Flatten(), nn.Linear(3 * 40 * 40, 9), nn.ReLU(), nn.Linear(9, 3)
    return nn.Sequential(*parts), ["cat", "dog", "tiger cat"], Preprocess(48, 40)
"""
    )
    words = ("photos/a.jpg", "--model", "flat.py:flat", "--json")
    status, out, err = run(*words, "--method", "gradient", "--method", "guided", capsys=capsys)
    record = json.loads(out)
    assert status == 0 and not err and record["methods"] == ["gradient", "guided"]
    assert record["layer"] is None and record["cam"] is None
    figure = json.loads(Image.open(record["figure"]).info["Description"])
    assert figure["titles"][1:] == ["gradient", "guided backpropagation"]
    assert "Grad-CAM" not in figure["note"] and "99.5" in figure["note"]
    assert "no layer that gives maps" in run(*words[:3], capsys=capsys)[2]
