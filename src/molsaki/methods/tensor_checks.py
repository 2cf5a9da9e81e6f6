"""Checks of the tensors and numbers that layers are weighed and losses computed with.

Legend: B batch, S steps, K keys.
"""

from __future__ import annotations

from torch import Tensor

from molsaki.errors import InputError


def check_attention(attention: Tensor, step_mask_BS: Tensor, key_mask_BK: Tensor, name: str) -> None:
    """Check that every example has a step and a key, and finite attention on them.

    Args:
        attention: [B, …, S, K].
        step_mask_BS: True at real steps.
        key_mask_BK: True at real keys.
        name: of the attention, for the message.

    Raises:
        InputError: shapes disagree, an example has no step or no key, or a real entry is not finite.
    """
    B, S, K = attention.shape[0], attention.shape[-2], attention.shape[-1]
    if step_mask_BS.shape != (B, S) or key_mask_BK.shape != (B, K):
        raise InputError(
            f"Expected a step mask {[B, S]} and a key mask {[B, K]} for {name} {list(attention.shape)}; got "
            f"{list(step_mask_BS.shape)} and {list(key_mask_BK.shape)}. Steps and keys would be mixed up; "
            f"create the masks from the same spans."
        )
    steps_BS, keys_BK = step_mask_BS.bool(), key_mask_BK.bool()
    real = (steps_BS[:, :, None] & keys_BK[:, None, :]).view(B, *(1,) * (attention.dim() - 3), S, K)
    finite_B = attention.detach().masked_fill(~real, 0.0).isfinite().flatten(1).all(1)
    no_step_B, no_key_B = ~steps_BS.any(1), ~keys_BK.any(1)
    bad_B = no_step_B | no_key_B | ~finite_B
    if not bool(bad_B.any()):
        return
    example = int(bad_B.nonzero()[0])
    if no_step_B[example]:
        what = "no step: its loss would be a mean over nothing"
    elif no_key_B[example]:
        what = "no key: there is nothing to attend to"
    else:
        what = f"a NaN or an infinity in the {name}: it would spread to every parameter"
    raise InputError(
        f"Expected at least one step and one key with finite attention in every example; example {example} of the "
        f"batch has {what}. Leave that example out, and count it."
    )


def require_positive(value: float, name: str) -> None:
    """Check that a number is positive and finite.

    Raises:
        InputError: it is not.
    """
    if not value > 0 or value == float("inf"):
        raise InputError(f"Expected a positive, finite {name}; got {value}.")


def require_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    """Check that an argument is one of some names.

    Raises:
        InputError: it is not.
    """
    if value not in choices:
        raise InputError(f"Expected {name} to be one of {', '.join(choices)}; got {value!r}.")
