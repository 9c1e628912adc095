"""One profile for hypothesis: reproducible, and no deadline on a loaded machine."""

from hypothesis import settings

settings.register_profile("estheory", deadline=None, derandomize=True)
settings.load_profile("estheory")
