"""Whether self-play is alive: the vital signs of a step, and a detector that names what collapsed and when.

Pure functions of records and numbers; nothing here knows a game, a model or a file.
"""

from spiral.training.health.detector import Collapse, Detector
from spiral.training.health.indicators import NOTHING, vital_signs

__all__ = ["NOTHING", "Collapse", "Detector", "vital_signs"]
