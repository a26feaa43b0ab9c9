"""Closed-form rendering of skeletons and capsule bodies, on the device of the joints."""
