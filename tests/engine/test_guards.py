"""What is refused before it misleads, and errors of torch in a sentence."""

import pytest
import torch
from engine_cases import CASES, Averaged, batch_of, classes, gradient, seeded, tasks_of, values_of, word_batch
from torch import Tensor, nn

from metavox.contracts import InputError
from metavox.engine import Engine, Problem, UpdateRule
from metavox.engine.guards import Sources, explained, fingerprint, mixes_items, twice_differentiable


@pytest.mark.parametrize("layer", [nn.BatchNorm1d(4), nn.InstanceNorm1d(4, track_running_stats=True)])
def test_norms_that_learn_statistics_are_refused_until_they_stop(layer: nn.Module) -> None:
    net = nn.Sequential(nn.Conv1d(3, 4, 3), layer, nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(4, 3)).double()
    words = rf"layer '1' is a {type(layer).__name__} in training mode .* use GroupNorm, .* or call eval\(\) on it"
    with pytest.raises(InputError, match=words):
        Engine(Problem.of(net, classes))
    layer.eval()
    engine = Engine(Problem.of(net, classes), UpdateRule(1), executor="loop")
    tasks = tasks_of(batch_of, 3, 6)
    assert engine.gradient(values_of(net), tasks).finite
    layer.train()  # a later call is watched as well
    with pytest.raises(InputError, match="layer '1'"):
        engine.gradient(values_of(net), tasks)


def test_an_embedding_that_changes_its_weights_is_refused() -> None:
    net = nn.Sequential(nn.Embedding(7, 3, max_norm=0.5), nn.Flatten(), nn.Linear(12, 3))
    with pytest.raises(InputError, match=r"layer '0' has max_norm=0.5, .*; set max_norm=None"):
        Engine(Problem.of(net, classes)).gradient(values_of(net), tasks_of(word_batch, 4))


def test_a_loss_that_changes_what_is_learned_is_named() -> None:
    module = seeded(nn.Linear(3, 3))

    def clamps(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        module.weight.data.clamp_(-0.1, 0.1)
        return classes(model, batch)

    problem = Problem.of(module, clamps)
    values = values_of(module)
    inner = Problem(problem.inner_loss, lambda v, f, b: (v["bias"].detach().zero_(), problem.outer_loss(v, f, b))[1])
    with pytest.raises(InputError, match="the loss changes 'bias' in place, and so what is learned"):
        Engine(inner, UpdateRule(1), executor="loop").gradient(values, tasks_of(batch_of, 3))


def test_inference_mode_is_named() -> None:
    problem, values, tasks = CASES["tanh"].problem()
    with torch.inference_mode(), pytest.raises(InputError, match=r"within torch.inference_mode\(\); leave it"):
        Engine(problem).gradient(values, tasks)
    with torch.no_grad():
        assert gradient(problem, UpdateRule(1), values, tasks).finite


def test_what_mixes_items_is_found() -> None:
    assert mixes_items(None) is None
    assert mixes_items(nn.Sequential(nn.Linear(2, 2), nn.GroupNorm(1, 2))) is None
    assert mixes_items(Averaged(False)) == "norm"
    assert mixes_items(Averaged(True)) is None  # in evaluation


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), "does not fit in memory .*; set a smaller chunk or memory_mb"),
        (RuntimeError("[enforce fail] can't allocate memory: 9 bytes"), "does not fit in memory"),
        (RuntimeError("element 0 of tensors does not require grad"), "does not depend on what adapts"),
        (RuntimeError("the derivative for '_cdist_backward' is not implemented"), "cannot be differentiated twice"),
        (RuntimeError("vmap: It looks like you're calling .item()"), "executor 'vmap' cannot run this task"),
    ],
)
def test_errors_become_sentences(error: Exception, words: str) -> None:
    with pytest.raises(InputError, match=words) as found, explained(True, "vmap"):
        raise error
    assert found.value.__cause__ is error


def test_other_errors_stay_as_they_are() -> None:
    for error in (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), KeyError("x")):
        with pytest.raises(type(error)) as found, explained(True, "vmap"):
            raise error
        assert found.value is error
    with pytest.raises(RuntimeError), explained(False, "loop"):
        raise RuntimeError("the derivative for 'x' is not implemented")


def test_fingerprints_tell_modes_and_settings_and_bear_anything() -> None:
    net = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.1))
    net.odd = ([1], {"a": 2}, torch.ones(2))
    seen = {fingerprint(net)}
    net[1].p = 0.2
    seen.add(fingerprint(net))
    net.eval()
    seen.add(fingerprint(net))
    assert len(seen) == 3
    assert fingerprint(None) == ()


def test_sources_stand_until_another_tensor_takes_their_place() -> None:
    net = nn.BatchNorm1d(2)
    sources = Sources.of(net, [net.running_mean, torch.ones(1)])
    net.running_mean.add_(1)
    assert sources.stand()
    net.running_mean = torch.ones(2)
    assert not sources.stand()
    assert Sources.of(None, [torch.ones(1)]).stand()


def test_attention_is_plain_within_and_as_before_after() -> None:
    before = torch.backends.cuda.flash_sdp_enabled()
    with twice_differentiable(None):
        assert not torch.backends.cuda.flash_sdp_enabled()
    assert torch.backends.cuda.flash_sdp_enabled() == before
