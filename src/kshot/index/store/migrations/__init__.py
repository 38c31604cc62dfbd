"""Schema changes, oldest first; run by `kshot.index.store.migrate`."""
