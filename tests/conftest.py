"""Settings that every test folder shares."""

from hypothesis import settings

# No deadline: a loaded machine is not a defect. The same examples in every run: a failure must be the
# commit's doing, not chance's.
settings.register_profile("ci", deadline=None, derandomize=True)
settings.register_profile("fast", settings.get_profile("ci"), max_examples=30)
settings.load_profile("fast")
