"""Word and voice as one log-likelihood ratio."""

import json
import math

import numpy as np
import pytest
from refusals import said

from metavox.calibration.fusion import (
    QUADRANTS,
    Fusion,
    fit_fusion,
    fitting,
    fusion_from,
    fusions_from,
    independent,
    one_of,
    product_rule,
    word_features,
)
from metavox.calibration.probabilities import Probabilities, probabilities
from metavox.metrics import eer


def trials(n: int, seed: int, gap: float = 3.0, leak: float = 0.0) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Gaussian log-likelihood ratios of both parts; ``leak`` of the voice is heard by the recogniser too."""
    rng = np.random.default_rng(seed)
    quadrants = np.repeat(np.arange(4), n)
    word_is, owner_is = quadrants % 2 == 0, quadrants < 2
    word = np.where(word_is, 1, -1) * gap**2 / 2 + gap * rng.standard_normal(4 * n)
    voice = np.where(owner_is, 1, -1) * gap**2 / 2 + gap * rng.standard_normal(4 * n)
    return {"word": word + leak * voice, "voice": voice}, quadrants


def test_independent_parts_give_the_mixture_rule() -> None:
    values, _ = trials(50, 1)
    w, s = values["word"], values["voice"]
    expected = -np.log((np.exp(-w) + np.exp(-s) + np.exp(-w - s)) / 3)
    np.testing.assert_allclose(independent().llr(values), expected)
    preferred = w + np.log(0.9 * np.exp(s) + 0.1) - np.log(0.5 * np.exp(s) + 0.5)
    np.testing.assert_allclose(independent().llr(values, "owner-biased"), preferred)
    np.testing.assert_allclose(independent().llr(values, "open"), w)


def test_the_fit_finds_what_calibrated_and_independent_parts_are() -> None:
    fusion = fit_fusion(*trials(40_000, 2), penalty=0.0)
    np.testing.assert_allclose(fusion.weights, independent().weights, atol=0.05)
    np.testing.assert_allclose(fusion.bias, 0.0, atol=0.05)


def test_the_fused_ratio_is_a_likelihood_ratio() -> None:
    """Among trials of one ratio the odds are that ratio, each side counted with its shares."""
    fusion = fit_fusion(*trials(4_000, 3, gap=1.5, leak=0.5))
    values, quadrants = trials(20_000, 4, gap=1.5, leak=0.5)
    llr, target = fusion.llr(values), quadrants == 0
    for low in np.arange(-2, 3):
        here = (llr >= low) & (llr < low + 1)
        odds = (here & target).sum() / ((here & ~target).sum() / 3)
        assert abs(math.log(odds) - llr[here].mean()) < 0.25


@pytest.mark.parametrize("leak", [0.0, 0.6])
def test_it_is_better_than_the_product_and_either_part(leak: float) -> None:
    fusion = fit_fusion(*trials(2_000, 5, gap=2.0, leak=leak))
    values, quadrants = trials(20_000, 6, gap=2.0, leak=leak)
    target = quadrants == 0

    def errors(scores: np.ndarray) -> float:
        return eer(scores[target], scores[~target])[0]

    ours = errors(fusion.llr(values))
    assert ours < errors(values["word"]) - 0.03
    assert ours < errors(values["voice"]) - 0.05
    assert ours <= errors(product_rule(values["word"], values["voice"])) + 0.002


def test_quadrants_and_groups_count_alike_however_many_trials_they_have() -> None:
    values, quadrants = trials(3_000, 7)
    rare = np.concatenate([np.flatnonzero(quadrants == k)[: 3_000 if k else 1_000] for k in range(4)])
    again = np.concatenate([np.arange(len(quadrants)), np.flatnonzero(quadrants == 2)])
    whole = fit_fusion(values, quadrants)
    doubled = fit_fusion({k: v[again] for k, v in values.items()}, quadrants[again])
    np.testing.assert_allclose(whole.weights, doubled.weights, atol=1e-6)
    fewer = fit_fusion({k: v[rare] for k, v in values.items()}, quadrants[rare])
    np.testing.assert_allclose(whole.bias, fewer.bias, atol=0.4)
    groups = np.arange(len(quadrants)) % 2
    many = np.concatenate([np.arange(len(quadrants)), *[np.flatnonzero(groups == 0)] * 3])
    balanced = fit_fusion({k: v[many] for k, v in values.items()}, quadrants[many], groups=groups[many])
    np.testing.assert_allclose(balanced.weights, fit_fusion(values, quadrants, groups=groups).weights, atol=1e-6)


def test_a_feature_that_tells_nothing_and_has_no_spread_does_no_harm() -> None:
    values, quadrants = trials(500, 8)
    fusion = fit_fusion({**values, "nothing": np.ones(len(quadrants))}, quadrants)
    plain = fit_fusion(values, quadrants)
    np.testing.assert_allclose(fusion.llr({**values, "nothing": np.ones(len(quadrants))}), plain.llr(values), atol=1e-5)


def test_it_is_kept_as_json_and_chosen_by_what_is_known() -> None:
    values, quadrants = trials(300, 9)
    more = fit_fusion({**values, "voice_in_word": values["voice"] ** 2}, quadrants)
    less = fit_fusion(values, quadrants, about={"corpora": ["a"]})
    kept = fusions_from(json.loads(json.dumps([less.as_document(), more.as_document()])), "x.json")
    assert [len(one.features) for one in kept] == [3, 2]
    assert fitting(kept, values) == less
    np.testing.assert_array_equal(kept[1].llr(values), less.llr(values))
    assert "needs word, voice" in said(lambda: fitting(kept, {"word": 1}))


def test_what_is_no_fusion_is_refused() -> None:
    good = independent().as_document()
    for document in (None, [], {}, {**good, "bias": {}}, {**good, "features": ["word"]}, {**good, "bias": "x"}):
        assert "x.json holds no fusion" in said(lambda document=document: fusion_from(document, "x.json"))
    assert "x.json holds no fusion" in said(lambda: fusions_from([], "x.json"))
    nan = {**good, "bias": {**good["bias"], QUADRANTS[1]: float("nan")}}
    assert "x.json holds no fusion" in said(lambda: fusion_from(nan, "x.json"))
    values, quadrants = trials(10, 10)
    assert "quadrant other_other" in said(lambda: fit_fusion(values, np.minimum(quadrants, 2)))
    assert "NaN" in said(lambda: fit_fusion({"word": values["word"] * np.nan}, quadrants))
    assert "No feature" in said(lambda: fit_fusion({}, quadrants))
    assert "lack" in said(lambda: Fusion(("else",), ((1.0,),) * 3, (0.0,) * 3).llr(values))


def test_word_features_are_the_odds_of_the_probabilities() -> None:
    rng = np.random.default_rng(11)
    scores, fitted = rng.normal(size=(20, 5)), Probabilities(0.7, 0.3)
    claimed, absent = np.arange(20) % 5, (np.arange(20) + 1) % 5
    found = probabilities(scores, fitted)[np.arange(20), claimed]
    np.testing.assert_allclose(word_features(scores, claimed, fitted)["word"], np.log(found / (1 - found)))
    shorter = np.stack([np.delete(row, k) for row, k in zip(scores, absent, strict=True)])
    place = claimed - (claimed > absent)
    without = word_features(scores, claimed, fitted, absent)
    again = word_features(shorter, place, fitted)
    np.testing.assert_allclose(without["word"], again["word"])
    np.testing.assert_allclose(without["nearness"], again["nearness"])


def test_one_of_several_voices_is_the_mean_likelihood() -> None:
    ratios = np.log(np.array([[4.0, 0.5, 0.25], [1.0, 1.0, 1.0]]))
    np.testing.assert_allclose(one_of(ratios), np.log([4.75 / 3, 1.0]))
