"""Settings that every test folder shares."""

from hypothesis import settings

# No deadline, because a loaded machine is not a defect; the same examples in every run, because a failure must
# be the commit's doing. Widen the search by hand with `--hypothesis-seed` and `max_examples`.
settings.register_profile("kshot", deadline=None, derandomize=True)
settings.load_profile("kshot")
