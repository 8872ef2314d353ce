"""`vitgan explore WAY MODEL`: ways of looking at a trained generator."""

from vitgan.cli.explore_pixels import attention, invert, zoom
from vitgan.cli.explore_styles import directions, grow, interpolate, mix, truncate
from vitgan.cli.parsing import Group

ABOUT = """Ways of looking at a trained generator.

example: vitgan explore interpolate runs/00000-quickstart --seeds 0 1 2 3"""

COMMAND = Group(
    ABOUT,
    {
        "interpolate": interpolate,
        "mix": mix,
        "truncate": truncate,
        "directions": directions,
        "zoom": zoom,
        "attention": attention,
        "invert": invert,
        "grow": grow,
    },
)
