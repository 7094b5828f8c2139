"""Where scores become decisions, promises and probabilities."""

from .thresholds import calibrate as calibrate
from .thresholds import decide as decide
from .thresholds import enrolment_scores as enrolment_scores
from .thresholds import reference_scores as reference_scores
