r"""The way to labelling tools and back: tasks out of a plan, answers out of a tool's export.

Pure conversions between bytes and records, of the standard library alone; nothing here asks a server.

>>> from kshot.labelling import Task, read_answers, tasks_file
>>> file = tasks_file("csv", [Task(id="t1", inputs="where is it", pool="tickets")])
>>> read_answers(b"id,outputs\nt1,order_status\n").given[0].outputs
'order_status'
"""

from kshot.labelling.answers import Answer, AnswerFile, Problem, Verdict
from kshot.labelling.label_studio import label_studio_config
from kshot.labelling.parsing import MAX_FILE_BYTES
from kshot.labelling.registry import AUTO, FORMATS, LabellingFormat, read_answers, recognised, tasks_file
from kshot.labelling.tasks import Task

__all__ = [
    "AUTO",
    "FORMATS",
    "MAX_FILE_BYTES",
    "Answer",
    "AnswerFile",
    "LabellingFormat",
    "Problem",
    "Task",
    "Verdict",
    "label_studio_config",
    "read_answers",
    "recognised",
    "tasks_file",
]
