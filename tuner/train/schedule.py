"""How the learning rate changes from the first step to the last."""

import math

ONE_CYCLE_RISE = 0.3  # share of the steps in which one_cycle rises, and from what part of the largest rate
ONE_CYCLE_START = 1 / 25
EXPONENTIAL_END = 0.01


def learning_rate_factor(decay: str, step: int, num_steps: int, warm_up: float = 0.0) -> float:
    """Tell what the largest learning rate is multiplied by.

    The learning rate changes with every step rather than epoch, so that a training of one epoch has the whole
    course too.

    Parameters
    ----------
    decay : str
        constant; step: a tenth from the middle and a hundredth from three quarters of the steps on; exponential: by
        the same factor each step, to a hundredth; cosine: half a cosine from one to zero; one_cycle: a line from a
        25th to one over three tenths of the steps, then half a cosine to zero.
    step : int, at least 0 and below ``num_steps``
        How many steps were taken before this one.
    num_steps : int, at least 1
        Of all epochs together.
    warm_up : float, at least 0 and below 1
        Share of the steps in which the rate rises in a line; the decay takes the steps that are left. one_cycle, whose
        own rise is a warm-up, has none of these.

    Returns
    -------
    float in [0, 1]
        Cosines are all but zero at the last step, and at zero right after, as a step of length zero would be
        wasted; so would be a first step of a warm-up that began at zero.

    Raises
    ------
    ValueError
        If there is no such decay.

    References
    ----------
    .. [1] Loshchilov and Hutter, "SGDR: Stochastic Gradient Descent with Warm Restarts", ICLR 2017,
       arXiv:1608.03983, equation 5 without restarts.
    .. [2] Goyal et al., "Accurate, Large Minibatch SGD: Training ImageNet in 1 Hour", 2017, arXiv:1706.02677,
       section 2.2: gradual warm-up.
    .. [3] Smith and Topin, "Super-Convergence: Very Fast Training of Neural Networks Using Large Learning Rates",
       2018, arXiv:1708.07120, section 3.
    """
    rising = 0.0 if decay == "one_cycle" else warm_up * num_steps
    if step < rising:
        return (step + 1) / (rising + 1)
    progress = (step - rising) / (num_steps - rising)
    if decay == "constant":
        return 1.0
    if decay == "step":
        return 1.0 if progress < 0.5 else 0.1 if progress < 0.75 else 0.01
    if decay == "exponential":
        return float(EXPONENTIAL_END**progress)
    if decay == "cosine":
        return _fall(progress)
    if decay == "one_cycle":
        if progress < ONE_CYCLE_RISE:
            return ONE_CYCLE_START + (1 - ONE_CYCLE_START) * progress / ONE_CYCLE_RISE
        return _fall((progress - ONE_CYCLE_RISE) / (1 - ONE_CYCLE_RISE))
    raise ValueError(f"decay must be constant, step, exponential, cosine or one_cycle, got {decay!r}")


def _fall(progress: float) -> float:
    """Half a cosine from one to zero."""
    return (1 + math.cos(math.pi * progress)) / 2
