"""Nothing on the terminal but what lorascope itself says."""

from collections.abc import Generator
from contextlib import contextmanager
from warnings import catch_warnings, simplefilter

from .extra import need_hf

__all__ = ["quiet"]


@contextmanager
def quiet() -> Generator[None]:
    """No warnings, bars or remarks of transformers, huggingface_hub and PEFT while the block runs.

    Raises:
        MissingExtraError: transformers or peft is not installed.
    """
    need_hf()
    from huggingface_hub import utils as hub  # noqa: PLC0415
    from transformers.utils import logging  # noqa: PLC0415

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    hub_verbosity, hub_bars = hub.logging.get_verbosity(), not hub.are_progress_bars_disabled()
    with catch_warnings():
        simplefilter("ignore")  # also of a bar that the environment forbids to turn off
        logging.set_verbosity_error()
        logging.disable_progress_bar()  # the hub's too
        hub.logging.set_verbosity_error()
        try:
            yield
        finally:
            logging.set_verbosity(verbosity)
            hub.logging.set_verbosity(hub_verbosity)
            if bars:
                logging.enable_progress_bar()
            (hub.enable_progress_bars if hub_bars else hub.disable_progress_bars)()
