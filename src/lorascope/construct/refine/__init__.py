"""Adapters below the threshold: closed-form starts, refined on inputs, written as adapters of the rank allowed."""

from .fnn import RefinedFNN, refine_fnn
from .job import Found, Job, Progress, job_for, refine
from .linear import refine_linear
from .profile import PROFILES, Profile, ProfileName, Round, profile_named
from .source import InputSource, input_source

__all__ = [
    "PROFILES",
    "Found",
    "InputSource",
    "Job",
    "Profile",
    "ProfileName",
    "Progress",
    "RefinedFNN",
    "Round",
    "input_source",
    "job_for",
    "profile_named",
    "refine",
    "refine_fnn",
    "refine_linear",
]
