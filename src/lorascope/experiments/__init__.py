"""What is run: settings in, plain rows out."""

from .digits import DigitsResult, DigitsRow, DigitsSettings, Progress, run_digits, train_target
from .digits_data import Digits, load

__all__ = ["Digits", "DigitsResult", "DigitsRow", "DigitsSettings", "Progress", "load", "run_digits", "train_target"]
