"""What is remembered: the store, the vector and token segments, and immutable pool snapshots."""
