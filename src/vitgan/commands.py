"""Commands as people paste them into a shell."""

import shlex

RECOMMENDED = "cifar10-tiny-modern"
"""The preset for people's own colour images: the best recipe measured on a CPU (docs/results/recipes.md)."""


def shell(*words: object) -> str:
    """The words of a command, quoted where a shell would split or read them."""
    return shlex.join(map(str, words))


def command(*words: object) -> str:
    """ "vitgan train --resume 'my runs/00000-quickstart'": one of ours."""
    return shell("vitgan", *words)
