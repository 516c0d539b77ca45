"""Units of pruning: the weights that leave a network together."""

from autosparse.core.units import channel, n_of_m, weight
from autosparse.core.units._base import Unit, units

__all__ = ["Unit", "channel", "n_of_m", "units", "weight"]
