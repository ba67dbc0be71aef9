"""Quantization-aware training: an ordinary module that rounds as the compiled one will."""

import copy
import pickle

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import fxq
from tests.nets import Classifier, Fn, Residual, SqueezeExcite, lively, ramp

X = ramp(8, 3, 16, 16)
Y = torch.arange(8) % 5


def trained(net, steps=4, inputs=(X,), **options):
    """A QAT module after a few steps of training."""
    qat = fxq.prepare_qat(net, example_inputs=tuple(x[:1] for x in inputs), **options)
    optimizer = torch.optim.SGD(qat.parameters(), 1e-2)
    for _ in range(steps):
        optimizer.zero_grad()
        qat(*inputs).square().mean().backward()
        optimizer.step()
    return qat


class Depthwise(nn.Sequential):
    """A depthwise layer whose pairs of weights FBGEMM would add in 16 bits."""

    def __init__(self):
        super().__init__(nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False),
                         nn.BatchNorm2d(8), nn.ReLU6(), nn.Flatten(), nn.Linear(2048, 5))


@pytest.mark.parametrize("net", [Classifier, SqueezeExcite, Depthwise], ids=lambda n: n.__name__)
@pytest.mark.parametrize("target, scheme", [
    ("fbgemm", "int8_qat"), ("reference", "int16_qat"), ("reference", "W4A8"),
    ("reference", "fp16_qat")])
def test_integers_equal_training(net, target, scheme):
    """Each operator within one step of training's rounding, same predictions (T50)."""
    parity = fxq.check_parity(trained(lively(net()), target=target, scheme=scheme), X)
    assert parity.worst_step <= 1
    assert parity.agreement == 1.0


def test_training_mode_uses_batch_statistics():
    """Batch norms are live: running statistics move, and outputs depend on the batch."""
    qat = fxq.prepare_qat(lively(Classifier()), example_inputs=(X[:1],))
    before = qat.model.block.bn1.running_mean.clone()
    qat(X)
    assert not torch.equal(before, qat.model.block.bn1.running_mean)


def test_training_computes_what_the_float_model_does():
    """With 16 bits, training mode gives the float model's own outputs and gradients."""
    net = lively(Classifier()).train()
    twin = copy.deepcopy(net)
    qat = fxq.prepare_qat(net, scheme="W16A16", target="reference", example_inputs=(X[:1],))
    for model in (qat, twin):
        F.cross_entropy(model(X), Y).backward()
    assert fxq.sqnr(twin.head.weight.grad, qat.model.head.weight.grad) > 50
    # less in front: the largest element of a symmetric format saturates, and has no gradient
    assert fxq.sqnr(twin.stem[0].weight.grad, qat.model.stem[0].weight.grad) > 25
    assert torch.allclose(twin.block.bn2.running_var, qat.model.block.bn2.running_var, rtol=1e-3)


def test_user_model_is_untouched():
    """Training happens on a copy: weights, flags and gradients stay."""
    net = lively(Classifier()).train()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    trained(net)
    assert all(torch.equal(before[k], v) for k, v in net.state_dict().items())
    assert net.training and all(p.grad is None for p in net.parameters())


def test_parameters_keep_their_names():
    """Checkpoints of the float model load, and those of training load back."""
    net = lively(Classifier())
    qat = trained(net)
    qat.model.load_state_dict(net.state_dict())
    net.load_state_dict(qat.model.state_dict())
    assert "model.block.conv1.weight" in dict(qat.named_parameters())


def test_frozen_layers_stay_frozen():
    """A parameter that the user does not train is not trained here either."""
    net = lively(Classifier())
    net.stem.requires_grad_(False)
    qat = trained(net)
    assert torch.equal(qat.model.stem[0].weight, net.stem[0].weight)
    assert not torch.equal(qat.model.head.weight, net.head.weight)


def test_dropout_is_live_in_training_only():
    """Modules and functions: random when training, absent in evaluation and when compiled."""
    net = Fn(lambda s, x: F.dropout(s.b(s.drop(F.relu(s.a(x)))), 0.5, s.training),
             a=nn.Conv2d(3, 4, 3), drop=nn.Dropout(0.5), b=nn.Conv2d(4, 4, 3)).eval()
    qat = trained(net)
    assert not torch.equal(qat(X), qat(X))
    qat.eval()
    assert torch.equal(qat(X), qat(X))
    assert fxq.check_parity(qat, X).worst_step <= 1


def test_dropout_on_one_branch_is_left_out_with_a_warning():
    """A value that others read without dropout cannot be dropped for one of them."""
    net = Fn(lambda s, x: s.a(x) + s.drop(x), a=nn.Conv2d(3, 3, 1), drop=nn.Dropout(0.5)).eval()
    with pytest.warns(fxq.FxqWarning, match="dropout is left out of training at drop"):
        fxq.prepare_qat(net, example_inputs=(X[:1],))


def test_freeze_schedule():
    """Ranges, then batch norms, stop at their step; train() does not wake the norms."""
    qat = fxq.prepare_qat(lively(Classifier()), example_inputs=(X[:1],))
    schedule = fxq.FreezeSchedule(qat, observers_at=1, batch_norm_at=2)
    for _ in range(2):
        qat(X)
        schedule.step()
    state = {k: v.clone() for k, v in qat.state_dict().items() if isinstance(v, torch.Tensor)}
    qat.train()
    qat(5 * X)
    assert all(torch.equal(v, qat.state_dict()[k]) for k, v in state.items())
    assert schedule.state_dict() == {"steps": 2}


def test_without_freezing_everything_moves():
    """The twin: ranges and running statistics follow the batches."""
    qat = fxq.prepare_qat(lively(Classifier()), example_inputs=(X[:1],))
    qat(X)
    state = {k: v.clone() for k, v in qat.state_dict().items() if isinstance(v, torch.Tensor)}
    qat(5 * X)
    assert any(not torch.equal(v, qat.state_dict()[k]) for k, v in state.items() if "high" in k)


@pytest.mark.parametrize("again", [copy.deepcopy, lambda q: pickle.loads(pickle.dumps(q))],
                         ids=["deepcopy", "pickle"])
def test_copies_are_equal_and_independent(again):
    """Processes may be given copies; training one leaves the other (T51)."""
    qat = trained(lively(Classifier())).eval()
    twin, before = again(qat), qat(X).detach()
    assert torch.equal(twin(X), before)
    with torch.no_grad():
        twin.model.head.weight.add_(1)
    assert torch.equal(qat(X), before) and not torch.equal(twin(X), before)


def test_resume_from_a_checkpoint():
    """The state of module, optimizer and schedule brings training to the same bits."""
    def run(qat, optimizer, steps):
        for _ in range(steps):
            optimizer.zero_grad()
            qat(X).square().mean().backward()
            optimizer.step()

    net = lively(Classifier())
    whole = fxq.prepare_qat(net, example_inputs=(X[:1],))
    first = fxq.prepare_qat(net, example_inputs=(X[:1],))
    optimizers = [torch.optim.SGD(q.parameters(), 1e-2, momentum=0.9) for q in (whole, first)]
    run(whole, optimizers[0], 4)
    run(first, optimizers[1], 2)
    second = fxq.prepare_qat(net, example_inputs=(X[:1],))
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    resumed = torch.optim.SGD(second.parameters(), 1e-2, momentum=0.9)
    resumed.load_state_dict(copy.deepcopy(optimizers[1].state_dict()))
    run(second, resumed, 2)
    assert torch.equal(whole.eval()(X), second.eval()(X))


def test_checkpoint_of_another_target_is_refused():
    """What was trained for one target's kernels is not loaded for another's (T52)."""
    state = trained(lively(Classifier()), target="reference").state_dict()
    other = fxq.prepare_qat(lively(Classifier()), example_inputs=(X[:1],))
    with pytest.raises(fxq.ConfigError, match="trained for target 'reference'"):
        other.load_state_dict(state)


def test_autocast():
    """Mixed precision: half-precision layers between float32 rounding, finite gradients."""
    qat = fxq.prepare_qat(lively(Classifier()), example_inputs=(X[:1],))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = F.cross_entropy(qat(X).float(), Y)
    loss.backward()
    assert all(torch.isfinite(p.grad).all() for p in qat.parameters() if p.requires_grad)
    assert fxq.check_parity(qat, X).worst_step <= 1


def test_learned_scales_get_gradients():
    """LSQ: scales are parameters, and training moves them."""
    qat = trained(lively(Classifier()), learn_scales=True, steps=1)
    before = {k: v.clone() for k, v in qat.named_parameters() if "scale" in k}
    optimizer = torch.optim.SGD(qat.parameters(), 1e-2)
    qat(X).square().mean().backward()
    optimizer.step()
    moved = [k for k, v in qat.named_parameters() if "scale" in k and not torch.equal(v, before[k])]
    assert len(moved) >= 0.8 * len(before) > 4
    assert fxq.check_parity(qat, X).worst_step <= 1


def test_start_from_statistics():
    """Ranges of a calibration are there from the first step, and stay."""
    net = lively(Classifier())
    seen = fxq.calibrate(fxq.prepare(net, example_inputs=(X,)), [X])
    qat = fxq.prepare_qat(net, example_inputs=(X[:1],), statistics=seen, calibrator="minmax")
    before = qat.eval()(X)
    qat.train()(3 * X)
    ranges = {q.key: float(q.high) for q in qat.quantizers.values()}
    assert ranges["input0"] == seen["input0"].maximum
    assert fxq.sqnr(net(X), before) > 25


def test_unobserved_range_is_an_error():
    """Evaluation before any training has no ranges, and says so (T36)."""
    qat = fxq.prepare_qat(lively(Classifier()), example_inputs=(X[:1],)).eval()
    with pytest.raises(fxq.CalibrationError, match="never observed in training"):
        qat(X)


def test_batches_that_are_not_finite_leave_ranges_alone():
    """A step that a gradient scaler would skip does not spoil the ranges (T37)."""
    qat = fxq.prepare_qat(lively(Classifier()), example_inputs=(X[:1],))
    qat.freeze_batch_norm()
    qat(X)
    before = [float(q.high) for q in qat.quantizers.values()]
    assert qat(X * float("nan")).isnan().all()  # and rounding does not hide it
    assert before == [float(q.high) for q in qat.quantizers.values()]


def test_weights_in_training_never_saturate_the_kernel():
    """Depthwise pairs are kept apart while training, so that conversion changes nothing."""
    net = lively(Depthwise())
    with torch.no_grad():
        net[1].weight.uniform_(0.9, 1.0)  # every pair of full-range integers would be unsafe
    qat = trained(net)
    compiled = fxq.convert(qat, runtime="python")
    record = next(r for r in compiled.report.passes if r.name == "pair-safe-weights")
    assert record.rewrites == () and fxq.check_parity(qat, X).worst_step <= 1


def test_parity_names_the_first_operator_that_differs():
    """A broken run is caught: here the conversion is given other ranges than training had."""
    qat = trained(lively(Classifier()))
    honest = type(qat).given

    def broken(self):
        given = honest(self)
        key = "block.conv1" if "block.conv1" in given.weights else next(iter(given.weights))
        given.weights[key].values.neg_()
        return given

    type(qat).given = broken
    try:
        with pytest.raises(fxq.VerificationError, match=r"differs from training by \d+ steps at"):
            fxq.check_parity(qat, X)
    finally:
        type(qat).given = honest


def test_convert_twice_and_train_on():
    """Converting takes a copy: the module trains on, and converts again."""
    qat = trained(lively(Classifier()))
    first, second = fxq.convert(qat, runtime="python"), fxq.convert(qat, runtime="python")
    assert torch.equal(first(X), second(X)) and qat.training


def test_reused_and_tied_layers_share_their_parameters():
    """One convolution called twice, with one norm each: gradients of both calls meet."""
    net = lively(Fn(lambda s, x: s.n2(s.c(s.n1(s.c(x)))), c=nn.Conv2d(3, 3, 1),
                    n1=nn.BatchNorm2d(3), n2=nn.BatchNorm2d(3)))
    assert fxq.check_parity(trained(net), X).worst_step <= 1


@pytest.mark.parametrize("layer, inputs", [
    (nn.ConvTranspose2d(4, 6, 3, stride=2, groups=2), ramp(2, 4, 6, 6)),
    (nn.Conv1d(4, 8, 3, padding=1), ramp(2, 4, 9)), (nn.Conv3d(4, 8, 3), ramp(2, 4, 5, 5, 5))])
def test_other_layers_with_norm(layer, inputs):
    """Transposed, one- and three-dimensional convolutions fold as they are compiled."""
    norm = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}[inputs.dim() - 2]
    net = lively(nn.Sequential(layer, norm(layer.out_channels), nn.ReLU()))
    qat = trained(net, inputs=(inputs,))
    assert fxq.check_parity(qat, inputs).worst_step <= 1


def test_norm_that_stands_alone():
    """A batch norm behind no layer is live too."""
    net = lively(Fn(lambda s, x: s.c(F.relu(s.n(x))), n=nn.BatchNorm2d(3), c=nn.Conv2d(3, 4, 1)))
    qat = trained(net)
    assert fxq.check_parity(qat, X).worst_step <= 1
    assert not torch.equal(qat.model.n.weight, net.n.weight)


def test_dead_channels():
    """A norm whose weight is zero for a channel gives its bias, in training and compiled."""
    net = lively(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 2, 1)))
    with torch.no_grad():
        net[1].weight[0], net[1].weight[1] = 0.0, -1.0
    assert fxq.check_parity(trained(net), X).worst_step <= 1


def test_fp32_overrides_are_trained_in_float():
    """An excepted layer keeps its float weights."""
    qat = trained(lively(Classifier()), overrides={"head": "fp32"})
    compiled = fxq.convert(qat, runtime="python")
    assert [r.path for r in compiled.report.left_in_float if r.op == "linear"] == ["head"]
    assert fxq.check_parity(qat, X).worst_step <= 1


@pytest.mark.parametrize("scheme", ["int8_dynamic", "int8_weight_only", "fp32"])
def test_schemes_without_training(scheme):
    """What has nothing to learn is refused with what would do."""
    with pytest.raises(fxq.ConfigError, match="nothing to train"):
        fxq.prepare_qat(lively(Classifier()), scheme=scheme, example_inputs=(X,))


def test_compile_refuses_trained_schemes():
    """A trained scheme without training is a mistake."""
    with pytest.raises(fxq.ConfigError, match="prepare_qat"):
        fxq.compile(lively(Classifier()), scheme="int8_qat", example_inputs=(X,))


def test_two_inputs_and_dict_outputs():
    """Signature and output structure are the model's."""
    net = Fn(lambda s, a, b: {"sum": s.c(a) + s.c(b)}, c=nn.Conv2d(3, 4, 1)).eval()
    qat = fxq.prepare_qat(net, example_inputs=(X[:1], X[:1]))
    qat(X, 2 * X)["sum"].sum().backward()
    assert set(qat.eval()(X, X)) == {"sum"}


def test_residual_blocks_of_residuals():
    """Shared formats of an add's operands survive training."""
    net = lively(nn.Sequential(nn.Conv2d(3, 8, 1), Residual(8), Residual(8)))
    assert fxq.check_parity(trained(net), X).worst_step <= 1
