"""Plots: every function gives a Figure with what it is about in it."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from torch import nn

import fxq
from fxq.budget.limits import Figures
from fxq.budget.search import Point
from tests.nets import Classifier, lively, ramp

X = ramp(8, 3, 16, 16)


@pytest.fixture(scope="module")
def model():
    return lively(Classifier())


@pytest.fixture(scope="module")
def compiled(model):
    return fxq.compile(model, example_inputs=(X,), calibration_data=[X], runtime="python")


@pytest.fixture(scope="module")
def profile(compiled):
    return compiled.profile(X, rounds=5, budget=0.1)


def texts(figure):
    axes = figure.axes
    return " ".join([t.get_text() for a in axes for t in (
        *a.get_yticklabels(), *a.texts, a.title, a.xaxis.label, a.yaxis.label)])


@pytest.mark.parametrize("name", ["histograms", "size", "latency", "sqnr"])
def test_pictures_of_a_profile(profile, name):
    """A Figure with something drawn on it."""
    figure = getattr(fxq.plot, name)(profile)
    assert isinstance(figure, Figure)
    assert any(a.patches or a.lines for a in figure.axes)


def test_weights_before_and_after(model, compiled):
    """Both distributions of each layer."""
    figure = fxq.plot.weights(model, compiled)
    assert len(figure.axes[0].patches) >= 1


def test_confusion_needs_labels(model, compiled):
    """With labels there are two matrices; without, an error that says so."""
    labels = torch.arange(8) % 5
    figure = fxq.plot.confusion(fxq.compare(model, compiled, [(X, labels)]), list("abcde"))
    assert len(figure.axes) == 2
    with pytest.raises(fxq.ConfigError, match="labels"):
        fxq.plot.confusion(fxq.compare(model, compiled, [X]))


def test_pareto_draws_the_front():
    """A point that is slower and worse than another is not on it."""
    points = [{"name": n, "accuracy": a, "ms": t, "mb": 1.0} for n, a, t in (
        ("fast", 90, 1), ("good", 95, 3), ("beaten", 89, 2))]
    figure = fxq.plot.pareto(points)
    assert len(figure.axes[0].lines[0].get_xdata()) == 2
    assert "beaten" in texts(figure)


def looked_at(count, close=False):
    """Points of a budget: the faster, the more is lost; some lie on each other."""
    def figures(i, shift):
        return Figures((1 + (i // 2 if close else i)) * (1 + shift), 2.0, 10**6 * (i + 1),
                       max(0.0, 3 - 0.4 * i + shift))
    return SimpleNamespace(pareto=tuple(Point(
        f"{count - i} int8_static, {i} fp32", {}, figures(i, 0.1), figures(i, 0.0), i == 2)
        for i in range(count)))


def overlaps(figure):
    """Pairs of texts in a picture whose boxes have more than a pixel in common."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()  # a first time lays it out
    axis, legend = figure.axes[0], figure.legends[0]
    ticks = [t for t in axis.get_xticklabels() if np.prod(np.subtract(axis.get_xlim(), t.get_position()[0])) < 0]
    ticks += [t for t in axis.get_yticklabels() if np.prod(np.subtract(axis.get_ylim(), t.get_position()[1])) < 0]
    shown = [axis.title, axis.xaxis.label, axis.yaxis.label, *axis.texts, *legend.get_texts(),
             *ticks]
    boxes = [(t.get_text(), Text.get_window_extent(t)) for t in shown  # without its line
             if t.get_text() and t.get_visible()]
    return [(a, b) for i, (a, x) in enumerate(boxes) for b, y in boxes[i + 1:]
            if min(x.x1, y.x1) - max(x.x0, y.x0) > 1 and min(x.y1, y.y1) - max(x.y0, y.y0) > 1]


@pytest.mark.parametrize("close", [False, True])
def test_a_trade_off_can_be_read(close):
    """Title, axes with units, each point's name once, and no text on another."""
    figure = fxq.plot.pareto(looked_at(8, close))
    axis = figure.axes[0]
    assert "ms" in axis.get_xlabel() and "points" in axis.get_ylabel() and axis.get_title()
    assert [t.get_text()[0] for t in figure.legends[0].get_texts()] == list("12345678")
    assert sum("(chosen)" in t.get_text() for t in figure.legends[0].get_texts()) == 1
    assert overlaps(figure) == []


def test_texts_on_each_other_are_found():
    """The failing twin: names at the points themselves."""
    figure = fxq.plot.pareto(looked_at(4))
    for _ in range(2):
        figure.axes[0].annotate("8 int8_static, 4 fp32", (2.0, 2.0))
    assert overlaps(figure)


def test_no_budget_has_no_trade_off(compiled):
    """It says what to do."""
    with pytest.raises(fxq.ConfigError, match="had no budget"):
        fxq.plot.pareto(compiled)


def test_sensitivity_shows_the_worst_layer_first(model):
    """What fxq.sensitivity returns: the lowest SQNR on top, each bar as long as its dB."""
    found = fxq.sensitivity(model, [X], scheme="W4A8")
    axis = fxq.plot.sensitivity(found).axes[0]
    names = [t.get_text() for t in axis.get_yticklabels()]
    assert names == sorted(found, key=found.get)
    assert [p.get_width() for p in axis.patches] == sorted(found.values())
    assert axis.yaxis_inverted() and "SQNR" in axis.get_xlabel() and "lost" not in axis.get_xlabel()


def test_a_layer_that_costs_nothing_is_last():
    """Infinite dB has no bar to draw: it says so, below those that cost something."""
    axis = fxq.plot.sensitivity({"equal": float("inf"), "worst": 3.0, "good": 40.0}).axes[0]
    assert [t.get_text() for t in axis.get_yticklabels()] == ["worst", "good", "equal"]
    assert [t.get_text() for t in axis.texts] == ["3.0", "40.0", "equal"]


def test_batches_have_a_line_for_each_model(model, compiled):
    """Latency on the left, throughput on the right."""
    figure = fxq.plot.batches({"float": model, "int8": compiled}, X, sizes=(1, 2))
    assert len(figure.axes[0].lines) == 2


def test_nothing_to_draw_is_a_picture_still():
    """A model without layers."""
    empty = fxq.compile(nn.Sequential(nn.ReLU()), scheme="fp32", example_inputs=(X,),
                        runtime="python").profile(X, rounds=5, budget=0.1)
    assert isinstance(fxq.plot.histograms(empty), Figure)
    assert isinstance(fxq.plot.size(empty), Figure)
