"""What is run: settings in, plain rows out."""

from .digits import Digits, DigitsResult, DigitsRow, DigitsSettings, load, run_digits, train_target

__all__ = ["Digits", "DigitsResult", "DigitsRow", "DigitsSettings", "load", "run_digits", "train_target"]
