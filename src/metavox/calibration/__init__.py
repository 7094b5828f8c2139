"""Where scores become decisions, promises and probabilities."""

from .bounds import as_sentence as as_sentence
from .bounds import threshold_for as threshold_for
from .probabilities import Probabilities as Probabilities
from .probabilities import brier_score as brier_score
from .probabilities import enrolment_probabilities as enrolment_probabilities
from .probabilities import expected_calibration_error as expected_calibration_error
from .probabilities import fit_probabilities as fit_probabilities
from .probabilities import reliability as reliability
from .thresholds import calibrate as calibrate
from .thresholds import decide as decide
from .thresholds import enrolment_scores as enrolment_scores
from .thresholds import reference_scores as reference_scores
