"""The names of the mesh axes, outermost first: the last ones have the nearest devices."""

AXES = ("data", "fsdp", "context", "tensor")
