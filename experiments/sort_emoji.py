"""Sorts the emoji of @lobehub/fluent-emoji-3d into one folder for each of Unicode's groups, for the bundled model `emoji`.

No skin tones, joined ones or flags: 1,385 images in 8 classes.

example: npm pack @lobehub/fluent-emoji-3d@1.1.0 unicode-emoji-json@0.9.0
         mkdir images groups
         tar xzf lobehub-fluent-emoji-3d-1.1.0.tgz -C images && tar xzf unicode-emoji-json-0.9.0.tgz -C groups
         python experiments/sort_emoji.py images/package/assets groups/package/data-by-emoji.json emoji
         vitgan data folder --source emoji --resolution 32 --labels folders --out data/emoji
"""

import json
import re
import shutil
import sys
from pathlib import Path

LEFT_OUT = re.compile("1f3f[b-f]|200d|1f1(e[6-9a-f]|f)")


def main() -> None:
    images, groups, out = map(Path, sys.argv[1:])
    group_of = {name(emoji): about["group"] for emoji, about in json.loads(groups.read_text("utf-8")).items()}
    for image in sorted(images.glob("*.webp")):
        group = group_of.get(image.stem.replace("-fe0f", ""), "Flags")
        if group != "Flags" and not LEFT_OUT.search(image.stem):
            (out / group).mkdir(parents=True, exist_ok=True)
            shutil.copy(image, out / group)


def name(emoji: str) -> str:
    """As a file is called: code points joined by hyphens, without the one that asks for a picture."""
    return "-".join(f"{ord(sign):04x}" for sign in emoji if ord(sign) != 0xFE0F)


if __name__ == "__main__":
    main()
