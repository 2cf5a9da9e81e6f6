"""MMI: what the student says after `predict:` and after `explain:` is to share information."""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from torch import Tensor

from molsaki.methods.base import Method
from molsaki.methods.inputs import OutputPair
from molsaki.methods.terms import MethodSettings, PooledOutputs, Term, Terms, Weight, label_and_rationale


class MaximisedMutualInformationSettings(MethodSettings):
    """Settings of MMI.

    Attributes:
        alpha: weight of the answers' loss; the rationales' has 1 − alpha (released code of MMI: 0.5).
        beta: weight of the cross-entropy between the two branches (released code of MMI: 0.1), or a share of gradient
            such as `{gradient: 0.1}`.
        pooled: how a branch's maxima are read as a distribution: "softmax" takes the rationale's as logits and the
            label's as weights that need not sum to 1 (released code of MMI), "sum" divides each by its sum.
        detach_labels: the rationale's branch moves towards the label's and not the other way (released code of MMI).
    """

    alpha: float = Field(default=0.5, ge=0, le=1)
    beta: Weight = 0.1
    pooled: Literal["softmax", "sum"] = "softmax"
    detach_labels: bool = True


class MaximisedMutualInformation(Method[MaximisedMutualInformationSettings]):
    """L = α·L_pre + (1 − α)·L_exp + β·L_mutual, L_mutual = −mean over examples of Σ_v P[v] · log Q[v].

    The output distributions of the two branches are pooled over the positions i of what is written by a maximum:
    m[v] = max_i p(v | predict: q, y_<i), and n[v] likewise after `explain:`. With `pooled: softmax`, P = m, whose sum
    is not 1 in general, and Q = softmax(n). With `pooled: sum`, P = m / Σ_v m[v] and Q = n / Σ_v n[v]. Chen,
    Huang, Gao, Wang, Zhao, Ding, "Learning to Maximize Mutual Information for Chain-of-Thought Distillation", Findings
    of ACL 2024, arXiv 2403.03348. The MoLSAKI paper compares itself with it.

    Departure: the released code of MMI pools over padding too; here only the written tokens count. The paper's
    students are encoder-decoders, for which "position" is the decoder's.
    """

    name = "mmi"
    summary = "answer and rationale as two tasks that share information (MMI loss)"
    Settings = MaximisedMutualInformationSettings

    @classmethod
    def terms_of(cls, settings: MaximisedMutualInformationSettings) -> Terms:
        """L = α·L_pre + (1 − α)·L_exp + β·L_mutual."""
        mutual = Term("mutual", settings.beta, ("predict", "explain"), PooledOutputs())
        return Terms([*label_and_rationale(settings.alpha), mutual])

    def output_loss(self, outputs: OutputPair) -> Tensor:
        """L_mutual."""
        return pooled_cross_entropy(outputs, self.settings.pooled, self.settings.detach_labels)


def pooled_cross_entropy(outputs: OutputPair, pooled: Literal["softmax", "sum"], detach_labels: bool) -> Tensor:
    """−mean over examples of Σ_v P[v] · log Q[v], times the examples' share of the optimizer step.

    Args:
        outputs: the two branches' pooled log-probabilities [E, V].
        pooled: "softmax": P[v] is the label's maximum as it is, Q = softmax of the rationale's maxima; "sum": each
            branch's maxima over their sum.
        detach_labels: no gradient goes to P.
    """
    label_EV = outputs.label_EV.detach() if detach_labels else outputs.label_EV
    if pooled == "softmax":
        weights_EV, log_EV = label_EV.exp(), outputs.rationale_EV.exp().log_softmax(1)
    else:
        weights_EV, log_EV = label_EV.softmax(1), outputs.rationale_EV.log_softmax(1)
    return -(weights_EV * log_EV).sum(1).mean() * outputs.share
