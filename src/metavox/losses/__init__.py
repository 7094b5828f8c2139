"""Losses and the scores they are taken of: of classes, and CTC that can be differentiated twice."""

from .classes import balanced_cross_entropy as balanced_cross_entropy
from .classes import cross_entropy as cross_entropy
from .classes import leave_one_out_scores as leave_one_out_scores
from .classes import membership as membership
from .classes import prototype_scores as prototype_scores
from .classes import within_class as within_class
from .ctc import ctc_loss as ctc_loss
from .ctc import native_is_twice_differentiable as native_is_twice_differentiable
from .nearest import leave_one_out_nearest as leave_one_out_nearest
from .nearest import nearest_scores as nearest_scores
from .nearest import nearest_within as nearest_within
