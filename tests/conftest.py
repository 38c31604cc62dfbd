"""Settings that every test folder shares."""

from hypothesis import settings

# No deadline: a loaded machine is not a defect. The same examples in every run: a failure must be the
# commit's doing, not chance's.
settings.register_profile("kshot", deadline=None, derandomize=True)
settings.load_profile("kshot")
