import torch

from pipeline.game import Coalitions, Game, Outputs, drive
from pipeline.methods.class_targeted import ClassTargeted

# players 0-2 carry class 0, players 3-4 class 1; class 2 is everywhere alike
WEIGHTS = torch.tensor(
    [
        [5.0, 4.0, 3.0, -0.5, -0.5, 0.0],
        [-0.5, -0.5, -0.5, 4.0, 3.0, 0.0],
        [0.5, 0.5, 0.5, 0.5, 0.5, 0.5],
    ]
).double()


def explain(weights_KN: torch.Tensor, target: int):
    """Logits are sums over visible players."""
    n = weights_KN.shape[1]
    rival = int((weights_KN.sum(1)).argmax())
    classes = tuple(dict.fromkeys((target, rival)))

    def answer(ask):
        coalitions_CN = ask.coalitions_CN
        logits_CK = coalitions_CN.double() @ weights_KN.T
        others = [k for k in range(len(weights_KN)) if k != target]
        odds_C = logits_CK[:, target] - logits_CK[:, others].logsumexp(1)
        return Outputs.of(
            classes=classes,
            logits_CT=logits_CK[:, list(classes)],
            log_odds_CT=odds_C[:, None].expand(-1, len(classes)),
            prediction_C=logits_CK.argmax(1),
        )

    ends = answer(Coalitions(torch.tensor([[False] * n, [True] * n])))
    coroutine = ClassTargeted().explain(Game(n_players=n, key="", ends=ends))
    return drive(coroutine, answer)["deletion"]


def test_phase_b_finds_the_players_of_a_class_that_was_not_predicted():
    found = explain(WEIGHTS, target=1)
    assert found.details["reached"]
    assert found.details["without_candidate"] == 0
    removed = found.details["phase_a"]
    assert found.order[:removed] == [0, 1]  # enough of class 0 is gone for class 1 to win
    assert found.order[removed] == 3
    assert found.details["phase_b"] == len(found.order) - removed
    assert bool(found.path.top1_C[removed - 1])
    assert not bool(found.path.top1_C[-1])


def test_the_predicted_class_needs_no_phase_a():
    found = explain(WEIGHTS, target=0)
    assert found.details["phase_a"] == 0
    assert found.order[0] == 0
    assert not bool(found.path.top1_C[-1])


def test_a_class_that_never_wins_is_reported():
    weights = WEIGHTS.clone()
    weights[1] = -10  # below class 2 on every coalition but the empty one
    weights[2] = torch.tensor([0.5, 0.5, 0.5, 0.5, 0.5, 0.5])
    weights[0, 0] = 20
    found = explain(weights, target=1)
    assert not found.details["reached"]
    assert found.details["phase_b"] == 0
    assert sorted(found.order) == list(range(6))
    assert found.evaluations == ClassTargeted().most_forwards(6)
