"""Meta-gradients of plain functions of named tensors. It knows neither speech nor learners."""

from .engine import Engine as Engine
from .engine import MetaGradient as MetaGradient
from .outer_loop import OuterLoop as OuterLoop
from .outers import Implicit as Implicit
from .outers import MultiStep as MultiStep
from .outers import Query as Query
from .outers import Reptile as Reptile
from .problem import Problem as Problem
from .rule import UpdateRule as UpdateRule
