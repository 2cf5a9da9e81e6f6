"""The losses: of the attention, and of all terms together.

Pure functions of tensors. A mean over nothing, a NaN or a mask of another batch raises an error that names the
example, since training would go on as if it worked.

Legend: B batch, T tokens, S steps, K keys.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce
from typing import Literal

import torch
from torch import Tensor

from molsaki.errors import InputError
from molsaki.methods.tensor_checks import check_attention, require_positive

Normalisation = Literal["softmax", "visible"]

AS_RUN = 0.1
"""τ of the released code."""
# Below any attention that a model can put on a key in float32, and large enough for a finite logarithm.
_SMALLEST_SHARE = 1e-30


@dataclass(frozen=True)
class AttentionLossParts:
    """The attention loss and its parts.

    Attributes:
        loss: scalar; the mean over the examples that count of the mean over their rows that count.
        per_example_B: each example's mean over its rows; 0 for an example without such a row.
        rows_B: number of steps of each example that count.
        excluded_B: number of real steps of each example that do not, since they see no key or have no attention on one.
    """

    loss: Tensor
    per_example_B: Tensor
    rows_B: Tensor
    excluded_B: Tensor


@dataclass(frozen=True)
class LossParts:
    """A loss and its terms.

    Attributes:
        total: the sum of the weighted terms.
        terms: the terms before weighting, by name, such as "label" (L_pre), "rationale" (L_exp), "attention" (L_att).
        weighted: the weighted terms, by the same names.
        shares: weighted term / total by the same names, detached; they sum to 1.
    """

    total: Tensor
    terms: dict[str, Tensor]
    weighted: dict[str, Tensor]
    shares: dict[str, Tensor]


def attention_loss(
    teacher_BSK: Tensor,
    student_BSK: Tensor,
    step_mask_BS: Tensor,
    key_mask_BK: Tensor,
    temperature: float | None = None,
    normalisation: Normalisation = "softmax",
    visible_BSK: Tensor | None = None,
) -> Tensor:
    """The divergence of the student's stepwise attention from the teacher's.

    Eq. 6, 7: mean over examples of (1/|steps|) Σ_s KL(softmax(A^t[s, :] / τ) ‖ softmax(A^s[s, :] / τ)).
    Departures from the paper are those of `methods.losses.attention_loss_parts`, which also returns the parts.

    Example:
        >>> import molsaki, torch
        >>> teacher_BSK, student_BSK = torch.tensor([[[0.9, 0.1]]]), torch.tensor([[[0.1, 0.9]]], requires_grad=True)
        >>> masks = torch.ones(1, 1, dtype=torch.bool), torch.ones(1, 2, dtype=torch.bool)
        >>> bool(molsaki.attention_loss(teacher_BSK, student_BSK, *masks) > 0)
        True
        >>> bool(molsaki.attention_loss(teacher_BSK, teacher_BSK, *masks) > 0)
        False

    Args:
        teacher_BSK: the teacher's attention [B, S, K] after its layers are mixed; no gradient goes to it.
        student_BSK: the student's, of the same shape.
        step_mask_BS: bool [B, S], True at real steps.
        key_mask_BK: bool [B, K], True at real keys.
        temperature: τ, for "softmax" only; 0.1 by default, as the released code; the paper's text has 1.
        normalisation: "softmax" over all keys of the example, or "visible": each row divided by its sum.
        visible_BSK: bool [B, S, K] with "visible", True where the step sees the key at all; see `visible_keys`.

    Returns:
        A scalar with the student's gradient.

    Raises:
        InputError: shapes disagree, an example has no step or no key, a real entry is NaN or infinite, or the
            temperature is not positive; it names the example.
    """
    return attention_loss_parts(
        teacher_BSK, student_BSK, step_mask_BS, key_mask_BK, temperature, normalisation, visible_BSK
    ).loss


def attention_loss_parts(
    teacher_BSK: Tensor,
    student_BSK: Tensor,
    step_mask_BS: Tensor,
    key_mask_BK: Tensor,
    temperature: float | None = None,
    normalisation: Normalisation = "softmax",
    visible_BSK: Tensor | None = None,
    *,
    teacher_learns: bool = False,
    check: bool = True,
) -> AttentionLossParts:
    """The attention loss with each example's value and the count of its rows.

    Eq. 6, 7 with `normalisation="softmax"`: mean over examples of
    (1/|steps|) Σ_s KL(softmax(A^t[s, :] / τ) ‖ softmax(A^s[s, :] / τ)). The softmax runs over all of the example's
    keys, so a key that a step cannot see yet (A = 0) has a share of exp(0); and A sums over a step's tokens, so
    long steps are sharper than short ones.

    Departures from the paper, by argument:
        `temperature`: the paper's text has τ = 1; its released code divides by 0.1 on both sides.
        `normalisation="visible"`: KL(A^t[s, :] / Σ A^t[s, :] ‖ A^s[s, :] / Σ A^s[s, :]) with the sums over the
        keys that step s can see. It depends on neither of the above. A row that sees no key, or on whose keys one
        of the two has no attention at all (a sliding window may have passed them), has no such quotient: it is
        left out of the mean over steps, an example without rows out of the mean over examples, and both are
        counted in the parts. If no row of the batch is left, the loss is 0.

    Args:
        teacher_BSK: the teacher's mixture; no gradient goes to it by default.
        student_BSK: the student's mixture.
        step_mask_BS: True at real steps.
        key_mask_BK: True at real keys.
        temperature: τ, for "softmax" only; 0.1 by default.
        normalisation: "softmax" or "visible".
        visible_BSK: with "visible", True where the step sees the key at all; see `visible_keys`.
        teacher_learns: let the gradient through to the teacher's mixture, for weights of its layers that are learned.
        check: check the values too. On an accelerator that forces a device sync, so False if they are checked already.

    Raises:
        InputError: shapes disagree, an example has no step or no key, a real entry of either side is NaN or
            infinite, or the temperature is not positive; it names the example.
    """
    if teacher_BSK.dim() != 3 or teacher_BSK.shape != student_BSK.shape:
        raise InputError(
            f"Expected teacher and student attention of one shape [B, S, K]; got {list(teacher_BSK.shape)} and "
            f"{list(student_BSK.shape)}. Their steps and keys are not the same spans; find the spans once for "
            f"each example and map them to both tokenizers."
        )
    teacher_BSK = (teacher_BSK if teacher_learns else teacher_BSK.detach()).to(
        device=student_BSK.device, dtype=torch.promote_types(student_BSK.dtype, torch.float32)
    )
    student_BSK = student_BSK.to(teacher_BSK.dtype)
    if check:
        check_attention(teacher_BSK, step_mask_BS, key_mask_BK, "teacher's attention")
        check_attention(student_BSK, step_mask_BS, key_mask_BK, "student's attention")
    rows_BS = step_mask_BS.bool()
    # Padding is set to 0 on both sides, so that not even a NaN there reaches a gradient.
    padded_BSK = ~(rows_BS[:, :, None] & key_mask_BK.bool()[:, None, :])
    teacher_BSK, student_BSK = teacher_BSK.masked_fill(padded_BSK, 0.0), student_BSK.masked_fill(padded_BSK, 0.0)
    if normalisation == "softmax":
        temperature = AS_RUN if temperature is None else temperature
        divergence_BS = _softmax_divergence(teacher_BSK, student_BSK, key_mask_BK.bool(), temperature)
        counts_BS = rows_BS
    elif normalisation == "visible":
        counted_BSK = _require_visible(visible_BSK, student_BSK, temperature) & key_mask_BK.bool()[:, None, :]
        divergence_BS, has_mass_BS = _visible_divergence(teacher_BSK, student_BSK, counted_BSK)
        counts_BS = rows_BS & has_mass_BS
    else:
        raise InputError(f'Expected normalisation to be "softmax" or "visible"; got {normalisation!r}.')
    rows_B = counts_BS.sum(1)
    per_example_B = divergence_BS.masked_fill(~counts_BS, 0.0).sum(1) / rows_B.clamp_min(1)
    loss = per_example_B.sum() / (rows_B > 0).sum().clamp_min(1)
    return AttentionLossParts(loss, per_example_B, rows_B, rows_BS.sum(1) - rows_B)


def visible_keys(
    step_of_token_BT: Tensor, key_of_token_BT: Tensor, steps: int | None = None, keys: int | None = None
) -> Tensor:
    """Which keys each step can see: those that start at or before the step's last token.

    Example:
        >>> import molsaki, torch
        >>> step_of_token, key_of_token = torch.tensor([[0, 0, 1, 1]]), torch.tensor([[0, -1, -1, 1]])
        >>> molsaki.visible_keys(step_of_token, key_of_token).tolist()
        [[[True, False], [True, True]]]

    Args:
        step_of_token_BT: LongTensor, the step of each token, −1 for none.
        key_of_token_BT: LongTensor, the key of each token, −1 for none.
        steps: S; the largest index + 1 by default.
        keys: K; the largest index + 1 by default.

    Returns:
        A bool tensor [B, S, K], False for steps and keys that have no token.

    Raises:
        InputError: the shapes differ, or S or K is smaller than an index needs.
    """
    if step_of_token_BT.dim() != 2 or step_of_token_BT.shape != key_of_token_BT.shape:
        raise InputError(
            f"Expected step_of_token and key_of_token of one shape [B, T]; got {list(step_of_token_BT.shape)} and "
            f"{list(key_of_token_BT.shape)}."
        )
    T = step_of_token_BT.shape[1]
    position_T = torch.arange(T, device=step_of_token_BT.device)
    ends_BS = _extreme_position(step_of_token_BT, position_T, steps, "steps", "amax", -1)
    starts_BK = _extreme_position(key_of_token_BT, position_T, keys, "keys", "amin", T)
    return starts_BK[:, None, :] <= ends_BS[:, :, None]


def distillation_loss(
    label_loss: Tensor,
    rationale_loss: Tensor,
    attention_loss: Tensor | None = None,
    alpha: float = 0.5,
    beta: float = 1.0,
) -> LossParts:
    """L = α·L_pre + (1 − α)·L_exp + β·L_att (Eq. 8 of the paper; without L_att it is DSS).

    Example:
        >>> import molsaki, torch
        >>> label, rationale, attention = torch.tensor([2.0, 1.0, 0.5])
        >>> loss = molsaki.distillation_loss(label, rationale, attention, alpha=0.5, beta=1.0)
        >>> loss.total, loss.terms["attention"]
        (tensor(2.), tensor(0.5000))

    Args:
        label_loss: L_pre, scalar.
        rationale_loss: L_exp, scalar.
        attention_loss: L_att, scalar, or None for Distilling step-by-step.
        alpha: in [0, 1]; the paper's 0.5.
        beta: at least 0; the paper's 1.0.

    Raises:
        InputError: a weight is out of its range, or a loss is not a scalar.
    """
    if not 0 <= alpha <= 1 or not 0 <= beta < float("inf"):
        raise InputError(f"Expected alpha in [0, 1] and a finite beta of at least 0; got {alpha} and {beta}.")
    if attention_loss is None:
        attention_loss = torch.zeros_like(rationale_loss)
    return weighted_loss(
        {
            "label": (alpha, label_loss),
            "rationale": (1 - alpha, rationale_loss),
            "attention": (beta, attention_loss),
        }
    )


def weighted_loss(terms: Mapping[str, tuple[float | Tensor, Tensor]]) -> LossParts:
    """The sum of any terms, L = Σ weight · term.

    Args:
        terms: by name, the weight and the scalar.

    Raises:
        InputError: a term is not a scalar.
    """
    for name, (_, loss) in terms.items():
        if loss.dim() != 0:
            raise InputError(f"Expected a scalar {name} loss; got one of shape {list(loss.shape)}. Reduce it first.")
    weighted = {name: weight * loss for name, (weight, loss) in terms.items()}
    total = reduce(torch.add, weighted.values())
    whole = total.detach()
    shares = {name: torch.where(whole == 0, 0.0, term.detach() / whole) for name, term in weighted.items()}
    return LossParts(total, {name: loss for name, (_, loss) in terms.items()}, weighted, shares)


def _softmax_divergence(teacher_BSK: Tensor, student_BSK: Tensor, keys_BK: Tensor, temperature: float) -> Tensor:
    require_positive(temperature, "temperature")
    padded_B1K = ~keys_BK[:, None, :]
    lowest = torch.finfo(student_BSK.dtype).min
    teacher_BSK, student_BSK = (
        torch.log_softmax((x / temperature).masked_fill(padded_B1K, lowest), dim=2) for x in (teacher_BSK, student_BSK)
    )
    terms_BSK = teacher_BSK.exp() * (teacher_BSK - student_BSK)
    return terms_BSK.masked_fill(padded_B1K, 0.0).sum(2)


def _visible_divergence(teacher_BSK: Tensor, student_BSK: Tensor, counted_BSK: Tensor) -> tuple[Tensor, Tensor]:
    teacher_BSK, student_BSK = (x.masked_fill(~counted_BSK, 0.0) for x in (teacher_BSK, student_BSK))
    teacher_mass_BS, student_mass_BS = teacher_BSK.sum(2), student_BSK.sum(2)
    has_mass_BS = (teacher_mass_BS > _SMALLEST_SHARE) & (student_mass_BS > _SMALLEST_SHARE)
    teacher_BSK = teacher_BSK / teacher_mass_BS.masked_fill(~has_mass_BS, 1.0)[:, :, None]
    student_BSK = student_BSK / student_mass_BS.masked_fill(~has_mass_BS, 1.0)[:, :, None]
    difference_BSK = teacher_BSK.clamp_min(_SMALLEST_SHARE).log() - student_BSK.clamp_min(_SMALLEST_SHARE).log()
    return (teacher_BSK * difference_BSK).sum(2), has_mass_BS


def _require_visible(visible_BSK: Tensor | None, student_BSK: Tensor, temperature: float | None) -> Tensor:
    if visible_BSK is None or visible_BSK.shape != student_BSK.shape:
        raise InputError(
            f"Expected visible_BSK of shape {list(student_BSK.shape)} for the visible normalisation; got "
            f"{None if visible_BSK is None else list(visible_BSK.shape)}. Make it with visible_keys."
        )
    if temperature is not None:
        raise InputError(f"Expected no temperature with the visible normalisation; got {temperature}. Leave it out.")
    return visible_BSK.bool()


def _extreme_position(
    index_BT: Tensor, position_T: Tensor, size: int | None, name: str, reduce: str, empty: int
) -> Tensor:
    needed = int(index_BT.max()) + 1 if index_BT.numel() else 0
    size = needed if size is None else size
    if size < needed:
        raise InputError(f"Expected at least {needed} {name} for the indices that the tokens have; got {size}.")
    slots = torch.full((index_BT.shape[0], size + 1), empty, device=index_BT.device, dtype=torch.long)
    # Tokens of no step or key go to a last slot that is dropped.
    index_BT = torch.where(index_BT < 0, size, index_BT)
    slots.scatter_reduce_(1, index_BT, position_T.expand(index_BT.shape), reduce)
    return slots[:, :size]
