"""What a user enrolled, on disk."""

from .contents import Revision as Revision
from .contents import Saved as Saved
from .contents import Take as Take
from .documents import digest_of as digest_of
from .folder import load_profile as load_profile
from .folder import model_of_profile as model_of_profile
from .folder import save_profile as save_profile
