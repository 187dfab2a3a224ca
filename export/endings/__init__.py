"""The outputs of a model: logits, or probabilities made of logits in one way or another."""

from fusioncam.export.endings.find_logits import find_ending
from fusioncam.export.endings.ranks import ranked, refuse_ranks
from fusioncam.export.endings.readings import Make
from fusioncam.export.endings.structure import ModelEnding

__all__ = ["Make", "ModelEnding", "find_ending", "ranked", "refuse_ranks"]
