"""The tasks of GLUE: rows, training by transformers and PEFT, and official scores."""

from .cell import TaskCell
from .data import Data, load_data
from .run import Run, run_task
from .settings import Settings
from .subject import subject
from .tasks import TASKS, Task, task_named
from .train import Trained, train
from .tsv import Split, read_split

__all__ = [
    "TASKS",
    "Data",
    "Run",
    "Settings",
    "Split",
    "Task",
    "TaskCell",
    "Trained",
    "load_data",
    "read_split",
    "run_task",
    "subject",
    "task_named",
    "train",
]
